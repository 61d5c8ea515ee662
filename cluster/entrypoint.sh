# Starts a job with the Python of the cluster's Ray: sh cluster/entrypoint.sh run SPEC ...
#
# Ray may be installed in a virtual environment that is not on the PATH of its own processes. Its
# raylet, an ancestor of this process, names the Python of its workers on its command line.
python=python
pid=$PPID
while [ -r "/proc/$pid/cmdline" ]; do
    found=$(tr '\0' '\n' <"/proc/$pid/cmdline" | sed -n \
        -e 's/^--python_worker_command="\([^"]*\)" .*/\1/p' \
        -e 's/^--python_worker_command=\([^" ]*\) .*/\1/p')
    if [ -n "$found" ]; then
        python=$found
        break
    fi
    pid=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$pid/status")
done
# `exec` replaces the shell, so that the sweep gets signals and sets the exit code.
exec "$python" -m cluster.entrypoint "$@"
