#!/usr/bin/env bash
# A real SLURM of one node on loopback, for as long as a command runs.
#
#     tests/workflows/slurm.sh COMMAND [WORD ...]
#
# munge with a key of its own, slurmctld and slurmd run in a temporary folder, on ports of their own, without systemd,
# cgroups or a database; as root or not. They and their jobs end with the command, whatever ends it. The node has as
# many CPUs as the machine, at least 4, and partitions "short" (2 minutes) and "long" (an hour, lower priority,
# preempted by "urgent"). Needs Debian's slurm-wlm and munge. Exit code: of the command; 77 if SLURM does not start.
set -euo pipefail

PATH=$PATH:/usr/sbin:/sbin
for program in munged slurmctld slurmd sbatch; do
    command -v "$program" >/dev/null || { echo "no $program; apt-get install slurm-wlm munge" >&2; exit 77; }
done

folder=$(mktemp -d "${TMPDIR:-/tmp}/slurm.XXXXXX")
chmod 755 "$folder"
mkdir -m 755 "$folder"/{munge,state,spool,log}
export SLURM_CONF=$folder/slurm.conf

ours() { # processes whose environment has our configuration: jobs, slurmd, slurmctld, munged
    grep -lzsFx "SLURM_CONF=$SLURM_CONF" /proc/[0-9]*/environ >"$folder/found" || true
    sed 's/[^0-9]//g' "$folder/found"
}
stop() {
    timeout 5 scancel --quiet --user="$(id -un)" 2>/dev/null || true
    for _ in $(seq 40); do # for the jobs to end
        [[ -z $(timeout 5 squeue --noheader 2>/dev/null) ]] && break
        sleep 0.1
    done
    for signal in TERM KILL; do
        found=$(ours)
        for process in $found; do kill -$signal "$process" 2>/dev/null || true; done
        for _ in $(seq 20); do
            found=$(ours)
            [[ -z $found ]] && break
            sleep 0.1
        done
    done
    rm -rf "$folder"
}
# What stops SLURM is a process of its own, which waits for the end of this one: it also follows kill -9.
exec {alive}> >(trap '' INT TERM HUP && cat >/dev/null && stop)
stopper=$!
finish() {
    [[ -z ${command:-} ]] || kill "$command" 2>/dev/null || true
    exec {alive}>&-
    wait "$stopper" || true
}
trap 'code=$?; trap "" INT TERM HUP; finish; exit $code' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

user=$(id -un)
read -r ctld node < <(python3 - <<'PORTS'
import socket

both = [socket.socket() for _ in range(2)]
for each in both:
    each.bind(("127.0.0.1", 0))
print(*(each.getsockname()[1] for each in both))
PORTS
)
cpus=$(nproc)
((cpus >= 4)) || cpus=4

cat >"$SLURM_CONF" <<CONF
ClusterName=loopback
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=$user
SlurmdUser=$user
SlurmctldPort=$ctld
SlurmdPort=$node
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld
SlurmdLogFile=$folder/log/slurmd
SlurmdParameters=config_overrides
CommunicationParameters=NoAddrCache
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=2
MinJobAge=10
InactiveLimit=0
NodeName=localhost NodeAddr=127.0.0.1 NodeHostname=$(hostname -s) CPUs=$cpus RealMemory=64000 State=UNKNOWN
PartitionName=short Nodes=localhost Default=YES MaxTime=2 DefaultTime=1 PriorityTier=1 State=UP
PartitionName=long Nodes=localhost MaxTime=60 DefaultTime=30 PriorityTier=1 State=UP
PartitionName=urgent Nodes=localhost MaxTime=1 DefaultTime=1 PriorityTier=10 State=UP
CONF

start() { # NAME COMMAND ...
    "${@:2}" {alive}>&- >"$folder/log/$1.out" 2>&1 &
}
wait_for() { # WHAT COMMAND ...
    for _ in $(seq 150); do
        "${@:2}" >/dev/null 2>&1 && return
        sleep 0.1
    done
    echo "SLURM does not start: $1" >&2
    tail -n 5 "$folder"/log/* >&2
    exit 77
}

(umask 077 && head -c 1024 /dev/urandom >"$folder/munge/key")
start munged munged --foreground --force --num-threads=2 --key-file="$folder/munge/key" \
    --socket="$folder/munge/socket" --pid-file="$folder/munge/pid" --seed-file="$folder/munge/seed" \
    --log-file="$folder/log/munged"
wait_for munged test -S "$folder/munge/socket"
start slurmctld slurmctld -D -i -f "$SLURM_CONF"
wait_for slurmctld bash -c 'scontrol ping | grep -q "is UP"'
start slurmd slurmd -D -N localhost -f "$SLURM_CONF"
wait_for slurmd bash -c 'sinfo --noheader --nodes=localhost --format=%T | grep -qx idle'

"$@" {alive}>&- <&0 &
command=$!
wait "$command"
