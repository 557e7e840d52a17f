// The two volumes of a report in NiiVue: one crosshair, and the warped image over the fixed one.
import { Niivue, NVImage, SHOW_RENDER, SLICE_TYPE } from "@niivue/niivue";

const canvas = document.getElementById("space");
const opacity = document.getElementById("opacity");
const where = document.getElementById("space-where");

async function start() {
  const viewer = new Niivue({
    backColor: [0, 0, 0, 1],
    crosshairColor: [0.9, 0.62, 0, 1],
    crosshairWidth: 0.5,
    show3Dcrosshair: true,
    multiplanarShowRender: SHOW_RENDER.ALWAYS,
    isColorbar: false,
    dragAndDropEnabled: false,
    isRadiologicalConvention: true, // as in the planes of the page: right on the left, the nose on the left
    sagittalNoseLeft: true,
    logLevel: "silent",
  });
  await viewer.attachToCanvas(canvas);
  const colours = ["gray", "warm"];
  for (const [number, { name, data }] of JSON.parse(document.getElementById("volumes").textContent).entries()) {
    const image = await NVImage.loadFromBase64({ name, base64: data, colormap: colours[number] });
    image.opacity = number === 0 ? 1 : 0.5;
    viewer.addVolume(image);
  }
  viewer.setSliceType(SLICE_TYPE.MULTIPLANAR);
  opacity.addEventListener("input", () => viewer.setOpacity(1, Number(opacity.value) / 100));
  // As on the screen, where right is on the left.
  const ways = { ArrowLeft: [1, 0, 0], ArrowRight: [-1, 0, 0], ArrowUp: [0, 1, 0], ArrowDown: [0, -1, 0],
    PageUp: [0, 0, 1], PageDown: [0, 0, -1] };
  canvas.addEventListener("keydown", (event) => {
    const way = ways[event.key];
    if (!way) return;
    event.preventDefault();
    event.stopPropagation();
    viewer.moveCrosshairInVox(...way);
    tell();
  });
  viewer.onLocationChange = tell;
  function tell() {
    const [x, y, z] = viewer.frac2mm(viewer.scene.crosshairPos);
    where.textContent = `crosshair at ${x.toFixed(0)}, ${y.toFixed(0)}, ${z.toFixed(0)} mm; drag, or use arrow and page keys`;
  }
  canvas.dataset.ready = "true";
}

start().catch((error) => {
  canvas.replaceWith(Object.assign(document.createElement("p"), {
    className: "soft", textContent: `The 3-D view needs WebGL 2, which this browser does not offer (${error.message}).` }));
});
