"""Many registrations: on Dask, resumable."""
