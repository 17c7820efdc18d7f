# Functions of the job scripts for Slurm and PBS; docs/clusters.md explains them.
# Keep this file in the folder that jobs are submitted from.
#
#   in_place COMMAND...              run a command
#   on_scratch DIRECTORY COMMAND...  run it with --directory on the node's own disk; DIRECTORY has its files before and after
#   requeue_or_end                   Slurm: start the job again if the command is to be continued, else end
#   resubmit_or_end SCRIPT FILE      PBS: the same, by submitting the script once more
#   signal_after SECONDS             PBS sends no signal before the end: the job sends its own
#
# in_place and on_scratch set $status: 0 done, 75 to be continued, anything else failed.
# A command is to be continued if it ended with 75, or was killed after the queue's signal.

: "${NODE_DISK:=${SLURM_TMPDIR:-${TMPDIR:-/tmp}}}" # node-local scratch
: "${SECONDS_TO_END:=120}"                         # from the queue's signal until the command is killed
: "${MOST_RESTARTS:=100}"

n_signals=0 command_pid='' killer_pid='' timer_pid=''

# The queue's signal reaches this shell alone (--signal=B:TERM), and is passed on.
trap _pass_on TERM

_pass_on() {
    n_signals=$((n_signals + 1))
    [ -n "$command_pid" ] || return
    kill -TERM "$command_pid" 2>/dev/null
    [ -n "$killer_pid" ] || _signal_in "$SECONDS_TO_END" KILL "$command_pid" killer_pid
}

_signal_in() { # SECONDS SIGNAL PID VARIABLE: sets VARIABLE to the process that waits; `sleep` would outlive it
    { read -rt "$1" <> <(:) || kill -"$2" "$3"; } 2>/dev/null &
    printf -v "$4" %s $!
}

signal_after() { _signal_in "$1" TERM $$ timer_pid; }

in_place() {
    local n_seen=-1
    "$@" &
    command_pid=$!
    [ "$n_signals" = 0 ] || _pass_on # it came before the command
    while [ "$n_signals" != "$n_seen" ]; do # a signal ends `wait` before the command has ended
        n_seen=$n_signals
        wait "$command_pid"
        status=$?
    done
    command_pid=''
    [ -z "$killer_pid" ] || kill "$killer_pid" 2>/dev/null
    [ "$n_signals" = 0 ] || [ "$status" -le 128 ] || status=75
}

on_scratch() {
    local directory=$1 folder scratch
    shift
    folder=$(mktemp -d "$NODE_DISK/asecalc-XXXXXX") || exit 1
    scratch=$folder/$(basename "$directory")
    [ -e "$directory" ] || [ ! -e "$directory.before" ] || mv "$directory.before" "$directory"
    [ ! -e "$directory" ] || cp -a "$directory" "$scratch" || exit 1
    in_place "$@" --directory "$scratch"
    if [ ! -e "$scratch" ] || _replace "$directory" "$scratch"; then
        rm -rf "$folder"
    else
        echo "$scratch on $(hostname) cannot be copied to $directory" >&2
        status=1
    fi
}

_replace() { # TARGET SOURCE: whenever this is killed, TARGET or TARGET.before is whole
    mkdir -p "$(dirname "$1")" && rm -rf "$1.incoming" && cp -a "$2" "$1.incoming" || return 1
    if [ -e "$1" ]; then
        rm -rf "$1.before" && mv "$1" "$1.before" || return 1
    fi
    mv "$1.incoming" "$1" && rm -rf "$1.before"
}

_end_unless_continued() { # RESTARTS
    [ -z "$timer_pid" ] || kill "$timer_pid" 2>/dev/null
    [ "$status" = 75 ] || exit "$status"
    [ "$1" -lt "$MOST_RESTARTS" ] || {
        echo "not done after $1 restarts (MOST_RESTARTS)" >&2
        exit 75
    }
}

requeue_or_end() {
    _end_unless_continued "${SLURM_RESTART_COUNT:-0}"
    case $(scontrol show job "$SLURM_JOB_ID") in
        *JobState=RUNNING* | *Reason=TimeLimit*) scontrol requeue "$SLURM_JOB_ID" ;;
        *) ;; # ended by scancel, which sends the same signal; one that is preempted Slurm itself requeues
    esac
    exit 75
}

resubmit_or_end() {
    _end_unless_continued "${RESTARTS:-0}"
    qsub -v "RESTARTS=$((${RESTARTS:-0} + 1)),FILE=$2" "$1"
    exit
}
