# In the guest, as root: what a user does with the package, from installing it to purging it. Each step says
# `ok` or `FAILED`; the status is the number of those that failed.
cd @FOLDER@ || exit 100
export DEBIAN_FRONTEND=noninteractive LC_ALL=C PAGER=cat SYSTEMD_COLORS=0
failed=0

step() { # NAME COMMAND ...
	name=$1
	shift
	if "$@" >/tmp/said 2>&1; then
		echo "ok      $name"
	else
		echo "FAILED  $name: $*"
		sed 's/^/        /' /tmp/said
		failed=$((failed + 1))
	fi
}

not() { ! "$@"; }
unit() { systemctl show -P "$1" remora; }
is() { # PROPERTY VALUE
	found=$(unit "$1")
	[ "$found" = "$2" ] || { echo "$1 is $found, expected $2"; false; }
}
until_true() { # SECONDS COMMAND ...
	end=$(($(date +%s) + $1))
	shift
	until "$@"; do
		[ "$(date +%s)" -lt "$end" ] || return 1
		sleep 1
	done
}
files() { find /etc /usr /var/lib /opt -xdev \( -path /var/lib/dpkg -o -path /var/lib/systemd \) -prune -o -print | sort; }
visit() { # COUNT
	for number in $(seq "$1"); do curl -sf -o /dev/null http://127.0.0.1/ || return 1; done
}
# Requests that a run's books in the journal tell of, each run on a line.
books() { journalctl -u remora -o cat --no-pager | sed -n 's/^remora: requests \([0-9]*\).*/\1/p'; }
said() { journalctl -u remora -o cat --no-pager | grep -q "$1"; }
requests() { curl -sf http://127.0.0.1:9465/status | tr -d ' \n' | grep -q "\"requests\":{\"ended\":$1,\"spans\":$1,"; }
restarted() { # PID: another process is active
	is ActiveState active && [ "$(unit MainPID)" != "$1" ] && curl -sf http://127.0.0.1:9465/readyz >/dev/null
}

# A connection that stays: asks on it as often as each line says.
cat >/tmp/kept.sh <<'END'
exec 3<>/dev/tcp/127.0.0.1/80
while read -r count; do
	for number in $(seq "$count"); do
		printf 'GET / HTTP/1.1\r\nhost: kept\r\n\r\n' >&3
		while IFS= read -r line <&3 && [ "$line" != $'\r' ]; do
			case $line in Content-Length:*) length=${line#*: } ;; esac
		done
		head -c "${length%$'\r'}" <&3 >/dev/null && echo answered >>/tmp/answered
	done
done
END
answered() { [ "$(wc -l </tmp/answered)" = "$1" ]; }

echo "guest: $(uname -r), $(. /etc/os-release && echo "$PRETTY_NAME"), $(systemctl --version | head -n 1)"
files >/tmp/before
step "nginx of the system runs" until_true 60 curl -sf -o /dev/null http://127.0.0.1/

step "installing succeeds" dpkg -i now.deb
step "the version is installed" [ "$(dpkg-query -Wf '${Version}' remora)" = @NOW@ ]
step "the unit is there and switched off" [ "$(systemctl is-enabled remora)" = disabled ]
step "the unit does not run" is ActiveState inactive
step "the unit is right" systemd-analyze verify --man=no /usr/lib/systemd/system/remora.service
step "the sample configuration is right" remora config check /etc/remora.yaml
step "only root reads the configuration" [ "$(stat -c '%a %U' /etc/remora.yaml)" = "600 root" ]
step "the man page is there" test -f /usr/share/man/man1/remora.1.gz
step "completions are there" test -f /usr/share/bash-completion/completions/remora

cat >/etc/remora.yaml <<'END'
selectors:
  - exe: nginx
listen: 127.0.0.1:9465
output:
  otlp_file: spans.json
END
cp /etc/remora.yaml /tmp/remora.yaml
step "enable --now returns when it is ready" systemctl enable --now remora
step "the unit is active" is ActiveState active
step "it told systemd that it is ready" is Type notify
step "it answers that it is attached" curl -sf -o /dev/null http://127.0.0.1:9465/readyz
step "it is not root" [ "$(stat -c %u "/proc/$(unit MainPID)")" != 0 ]
step "requests are answered" visit 7
step "they are seen" until_true 60 requests 7
mkfifo /tmp/ask
bash /tmp/kept.sh </tmp/ask &
exec 5>/tmp/ask
echo 2 >&5
step "two more are answered on a connection that stays" until_true 30 answered 2
step "these are seen, too" until_true 60 requests 9
step "spans are where the unit lets it write" until_true 60 grep -q nginx /var/lib/remora/spans.json

pid=$(unit MainPID)
sed -i 's/^selectors:/# reloaded\nselectors:/' /etc/remora.yaml
cp /etc/remora.yaml /tmp/remora.yaml
step "reload keeps the process" systemctl reload remora
step "it is the same process" [ "$(unit MainPID)" = "$pid" ]

step "restart" systemctl restart remora
step "another process runs" restarted "$pid"
step "the books of the first run are in the journal" [ "$(books | tail -n 1)" = 9 ]
step "requests to the second run are answered" visit 5
echo 3 >&5
step "three are answered on the connection that stayed" until_true 30 answered 5
exec 5>&-
step "the second run counts its own" until_true 60 requests 8

pid=$(unit MainPID)
kill -STOP "$pid"
began=$(date +%s)
step "an agent that hangs is replaced" until_true 120 restarted "$pid"
echo "guest: replaced after $(($(date +%s) - began)) s"
step "systemd says that it was the watchdog" said "atchdog timeout"
step "it was restarted once by itself" is NRestarts 1
step "requests to its successor are answered" visit 3
step "its successor counts them" until_true 60 requests 3

pid=$(unit MainPID)
kill -KILL "$pid"
step "an agent that is killed is replaced" until_true 60 restarted "$pid"

pid=$(unit MainPID)
step "requests before the upgrade are answered" visit 4
# Both the user and the package have changed the sample; without a terminal the user's stays.
step "upgrading succeeds" dpkg --force-confold -i next.deb
step "the next version is installed" [ "$(dpkg-query -Wf '${Version}' remora)" = @NEXT@ ]
step "the configuration is kept" cmp /etc/remora.yaml /tmp/remora.yaml
step "the new sample lies beside it" grep -q "Of @NEXT@" /etc/remora.yaml.dpkg-dist
step "the upgraded agent runs" until_true 60 restarted "$pid"
step "its predecessor's books are in the journal" [ "$(books | tail -n 1)" = 4 ]
step "it is still switched on" [ "$(systemctl is-enabled remora)" = enabled ]

pid=$(unit MainPID)
step "removing succeeds" dpkg -r remora
step "nothing of it runs" not test -d "/proc/$pid"
step "it is switched off" not test -e /etc/systemd/system/multi-user.target.wants/remora.service
step "the configuration stays" cmp /etc/remora.yaml /tmp/remora.yaml
step "the spans stay" test -s /var/lib/private/remora/spans.json
step "purging succeeds" dpkg -P remora
files >/tmp/after
step "nothing is left" diff /tmp/before /tmp/after
step "systemd does not know it any more" [ "$(unit LoadState)" = not-found ]
[ "$failed" = 0 ] || journalctl -u remora -o short-monotonic --no-pager | tail -n 60
exit "$failed"
