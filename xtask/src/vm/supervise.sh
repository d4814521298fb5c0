# The guest's first process: tells the machine outside that it is up, runs the job with its output
# on the first port, and says on the second how it ended. The end of this process is the guest's.
b=/run/job/busybox
for port in /dev/vport*p1; do output=$port; done
for port in /dev/vport*p2; do control=$port; done
exec 3>"$control"
echo up >&3
$b setsid /bin/sh /run/job/job.sh >"$output" 2>&1 </dev/null
echo "rc $?" >&3
exec 3>&-
$b reboot -f
