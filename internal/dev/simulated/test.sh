#!/bin/sh
# A test of the simulated lab, which lasts some seconds. One of 15 fails.
green=$(printf '\033[32m') red=$(printf '\033[31m') plain=$(printf '\033[0m')
seconds=$((HOSTSCHED_RUN % 3 + 1))
failed=$((HOSTSCHED_RUN % 15 == 0))

echo "run $HOSTSCHED_RUN of job $HOSTSCHED_JOB on $HOSTSCHED_HOST (fencing token $HOSTSCHED_EPOCH)"
for step in boot login suspend; do
	echo "  $step ..."
	sleep "$seconds"
	echo "  $step ${green}passed${plain}"
done
if [ "$failed" -eq 1 ]; then
	echo "  shutdown ${red}failed${plain}: the screen stayed on" >&2
	exit 1
fi
echo "  shutdown ${green}passed${plain}"
