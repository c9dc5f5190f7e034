#!/bin/sh
# A simulated host: does what the commands of a lab would do with a real one, and takes its
# time. One task of 40 fails, and the host is repaired then.
task=$1 host=$2 run=$3

say() {
	echo "$host: $*"
	sleep 0.2
}

case $task in
verify) say "answers after 0.4 ms" ;;
cleanup) say "logs everybody out" ;;
reset)
	say "restarts"
	say "is back after 0.2 s"
	;;
provision)
	say "takes the image of its labels"
	say "restarts"
	;;
repair)
	say "power off"
	say "power on"
	say "is back"
	exit 0
	;;
esac
if [ $((run % 40)) -eq 0 ]; then
	echo "$host: does not come back" >&2
	exit 1
fi
