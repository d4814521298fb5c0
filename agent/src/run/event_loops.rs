//! Whether a thread waits for events of several descriptors: then it is an event loop, whatever it answers.

use std::fs;

/// Whether the thread is in such a system call now; `false` also where it cannot be asked.
pub(super) fn waits_for_events(tgid: u32, tid: u32) -> bool {
    let syscall = fs::read_to_string(format!("/proc/{tgid}/task/{tid}/syscall"));
    syscall.is_ok_and(|line| is_waiting(&line))
}

/// Of proc_pid_syscall(5): the number stands first; of a thread that runs there is none.
fn is_waiting(line: &str) -> bool {
    let number = line.split_ascii_whitespace().next().and_then(|first| first.parse().ok());
    number.is_some_and(|number: i64| {
        #[cfg(target_arch = "x86_64")]
        if number == libc::SYS_epoll_wait {
            return true;
        }
        [libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2, libc::SYS_io_uring_enter].contains(&number)
    })
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    #[test]
    fn a_thread_that_waits_for_events_is_seen() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let waiter = thread::spawn(move || {
            tell.send(rustix::thread::gettid()).unwrap();
            let _ = runtime.block_on(stopped);
        });
        let tid = told.recv().unwrap().as_raw_nonzero().get().unsigned_abs();
        let own = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
        let tgid = std::process::id();
        for _ in 0..500 {
            if waits_for_events(tgid, tid) {
                drop(stop);
                waiter.join().unwrap();
                assert!(!waits_for_events(tgid, own), "this one runs");
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("it was never seen to wait");
    }

    #[test]
    fn other_calls_are_no_events() {
        for line in ["running\n", "", "-1 0x7ffd 0x55d0\n", "0 0x3 0x7f 0x1000\n", "202 0x1 0x2\n"]
        {
            assert!(!is_waiting(line), "{line:?}");
        }
        assert!(is_waiting(&format!("{} 0x4 0x7f 0x80\n", libc::SYS_epoll_pwait)));
    }
}
