#!/bin/busybox sh
# The initramfs's init. /host becomes the shared root of the machine outside, read-only; /new an
# overlay over it whose changes stay in the guest's memory.
b=/bin/busybox
fail() {
	echo "init: $*" >/dev/console
	$b reboot -f
}
$b mkdir -p /proc /sys /dev /host /over /new
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
for module in /modules/*.ko; do
	$b insmod "$module" || echo "init: $module was refused" >/dev/console
done
$b mount -t virtiofs -o ro host /host || fail "cannot mount the shared root"
$b mount -t tmpfs -o size=1g over /over
$b mkdir /over/upper /over/work
system=$($b sed -n 's/.*remora\.system=\([^ ]*\).*/\1/p' /proc/cmdline)
$b mount -t overlay -o "lowerdir=/host$system",upperdir=/over/upper,workdir=/over/work root /new ||
	fail "cannot mount the overlay"
for folder in proc sys dev; do
	$b mount -o move /$folder /new/$folder
done
$b mkdir -p /new/dev/shm /new/dev/pts
$b mount -t devpts -o mode=620,ptmxmode=666 devpts /new/dev/pts
for folder in tmp run dev/shm; do
	$b mount -t tmpfs -o mode=1777 tmpfs /new/$folder
done
$b mount -t cgroup2 cgroup /new/sys/fs/cgroup
$b mount -t bpf bpf /new/sys/fs/bpf
$b mount -t tracefs tracefs /new/sys/kernel/tracing
$b mount -t debugfs debugfs /new/sys/kernel/debug
$b mount -t securityfs security /new/sys/kernel/security
# A page that is being moved cannot be read without a fault, and is counted as unreadable: in so little memory it would happen to tests.
echo never > /new/sys/kernel/mm/transparent_hugepage/enabled
[ ! -e /new/proc/sys/vm/compaction_proactiveness ] || echo 0 > /new/proc/sys/vm/compaction_proactiveness
$b ip link set lo up
$b hostname guest
# The job's own folders, which may lie under what was just covered.
$b mkdir -p /new/run/job
$b cp /bin/busybox /job/* /new/run/job/
trees=$($b sed -n 's/.*remora\.trees=\([^ ]*\).*/\1/p' /new/proc/cmdline | $b tr , ' ')
for folder in $trees; do
	if [ ! -d "/new$folder" ]; then
		$b mkdir -p "/new$folder"
		$b mount -o bind "/host$folder" "/new$folder" || fail "cannot bind $folder"
	fi
done
if [ -z "$system" ]; then
	exec $b switch_root /new /run/job/busybox sh /run/job/supervise.sh
fi
# A system of its own: its init starts the job when everything else is there.
units=/new/etc/systemd/system
$b mkdir -p $units/multi-user.target.wants
$b cat >$units/job.service <<'END'
[Unit]
Description=the job
After=network.target nginx.service

[Service]
ExecStart=/run/job/busybox sh /run/job/supervise.sh
END
$b ln -s ../job.service $units/multi-user.target.wants/
exec $b switch_root /new /sbin/init
