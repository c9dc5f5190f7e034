# What agents run on a host: hostsched WHAT FOLDER RUN-FOLDER EPOCH.
what=$1 folder=$2 own=$3 epoch=$4
umask 077
boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)

# signal NAME FOLDER: the process group of the run in a folder, unless the host was
# started since.
signal() {
	group=$(cat "$2/group" 2>/dev/null)
	case $group in '' | *[!0-9]*) return ;; esac
	[ "$(cat "$2/boot" 2>/dev/null)" = "$boot" ] && kill -s "$1" -- "-$group" 2>/dev/null
}

case $what in
kill-*)
	signal "${what#kill-}" "$own"
	exit 0
	;;
esac

# Whoever comes with a lower number has lost the host.
mkdir -p "$folder" || exit 69
last=$(cat "$folder/epoch" 2>/dev/null)
if [ "${last:-0}" -gt "$epoch" ]; then
	echo "hostsched: the host was given to a later run" >&2
	exit 75
fi
echo "$epoch" >"$folder/epoch.$$" && mv "$folder/epoch.$$" "$folder/epoch" || exit 69
for other in "$folder"/run-*; do
	[ -d "$other" ] && [ "$other" != "$own" ] || continue
	signal KILL "$other"
	rm -rf "$other"
done
[ "$what" = fence ] && exit 0

cd "$own" || exit 69
printf %s "$boot" >boot
. ./env
session=
command -v setsid >/dev/null && session=setsid
$session /bin/sh -c 'echo $$ >group; exec ./script' </dev/null &
wait $!
status=$?
[ -n "$session" ] && signal KILL "$own"
rm -rf "$own"
exit $status
