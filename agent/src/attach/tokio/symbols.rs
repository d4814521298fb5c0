//! Which function of a Rust program a symbol names, in either of rustc's manglings.

/// What matters of a program with tokio.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Sets the variable that has the id of the task which is polled: `TaskIdGuard::enter`.
    SetsCurrent,
    /// Sets it to an id or to none: its `drop`, and `context::set_current_task_id`, which both may call.
    Restores,
    /// `OwnedTasks::bind_inner`
    Starts,
    /// `blocking::pool::Spawner::spawn_task`
    StartsBlocking,
    /// `Schedule::release` of a scheduler
    Ends,
    /// `task::raw::drop_join_handle_slow`
    Joins,
    /// `mpsc::list::Tx::push`
    Pushes,
    /// `mpsc::list::Tx::find_block`
    FindsBlock,
    /// `mpsc::chan::Rx::recv`
    Receives,
    /// Of hyper's client, of its pool or of a connection with HTTP/1: may put a request into a connection's channel, or take one from there.
    Hyper,
}

impl Kind {
    /// Of the function with this symbol.
    pub fn of(name: &str) -> Option<Self> {
        if !(name.starts_with("_ZN") || name.starts_with("_R")) || name.contains("drop_in_place") {
            return None;
        }
        let has = |part: &str| name.contains(part);
        // Of an implementation of a trait the first mangling has a path within one component.
        let any = |parts: &[&str]| parts.iter().any(|part| has(part));
        if has("tokio") {
            let path = |module: &str, kind: &str, method: &str| {
                has(module) && has(kind) && is_last(name, method)
            };
            if has("TaskIdGuard") && is_last(name, "5enter") {
                return Some(Self::SetsCurrent);
            }
            if has("TaskIdGuard") && is_last(name, "4drop")
                || has("7runtime7context") && is_last(name, "19set_current_task_id")
            {
                return Some(Self::Restores);
            }
            if path("4task4list", "OwnedTasks", "10bind_inner") {
                return Some(Self::Starts);
            }
            if path("8blocking4pool", "7Spawner", "10spawn_task") {
                return Some(Self::StartsBlocking);
            }
            // An implementation of the trait for a counted reference to the scheduler.
            if has("Schedule") && is_last(name, "7release") {
                return Some(Self::Ends);
            }
            if has("4task3raw21drop_join_handle_slow") {
                return Some(Self::Joins);
            }
            if path("4sync4mpsc4list", "Tx", "4push") {
                return Some(Self::Pushes);
            }
            if path("4sync4mpsc4list", "Tx", "10find_block") {
                return Some(Self::FindsBlock);
            }
            if path("4sync4mpsc4chan", "Rx", "4recv") {
                return Some(Self::Receives);
            }
        }
        let client = [
            "5hyper6client",
            "10hyper_util6client",
            "hyper..client..",
            "hyper_util..client..",
            "5hyper5proto2h18dispatch",
            "hyper..proto..h1..dispatch..",
        ];
        any(&client).then_some(Self::Hyper)
    }
}

/// Whether `method` (with its length before it) is what the symbol names, not something within it.
fn is_last(name: &str, method: &str) -> bool {
    let Some(at) = name.rfind(method) else { return false };
    let rest = &name[at + method.len()..];
    if name.starts_with("_ZN") { rest.starts_with("17h") } else { !name.starts_with("_RNC") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_told_by_their_symbols() {
        for (name, kind) in [
            (
                "_ZN5tokio7runtime7context19set_current_task_id17h0123456789abcdefE",
                Some(Kind::Restores),
            ),
            (
                "_ZN5tokio7runtime4task4core11TaskIdGuard5enter17h0123456789abcdefE",
                Some(Kind::SetsCurrent),
            ),
            (
                "_ZN86_$LT$tokio..runtime..task..core..TaskIdGuard$u20$as$u20$core..ops..drop..Drop$GT$4drop17h0123456789abcdefE",
                Some(Kind::Restores),
            ),
            (
                "_ZN5tokio7runtime4task4list19OwnedTasks$LT$S$GT$10bind_inner17h0123456789abcdefE.llvm.17",
                Some(Kind::Starts),
            ),
            (
                "_ZN5tokio7runtime8blocking4pool7Spawner10spawn_task17h0123456789abcdefE",
                Some(Kind::StartsBlocking),
            ),
            (
                "_ZN5tokio7runtime8blocking4pool7Spawner10spawn_task28_$u7b$$u7b$closure$u7d$$u7d$17h0123456789abcdefE",
                None,
            ),
            (
                "_ZN5tokio7runtime9scheduler14current_thread134_$LT$impl$u20$tokio..runtime..task..Schedule$u20$for$u20$alloc..sync..Arc$LT$tokio..runtime..scheduler..current_thread..Handle$GT$$GT$7release17h0123456789abcdefE",
                Some(Kind::Ends),
            ),
            ("_ZN5tokio4sync15batch_semaphore9Semaphore7release17h0123456789abcdefE", None),
            (
                "_ZN5tokio7runtime4task3raw21drop_join_handle_slow17h0123456789abcdefE",
                Some(Kind::Joins),
            ),
            ("_ZN5tokio7runtime4task3raw7RawTask21drop_join_handle_slow17h0123456789abcdefE", None),
            ("_ZN5tokio4sync4mpsc4list11Tx$LT$T$GT$4push17h0123456789abcdefE", Some(Kind::Pushes)),
            (
                "_ZN5tokio4sync4mpsc4list11Tx$LT$T$GT$10find_block17h0123456789abcdefE",
                Some(Kind::FindsBlock),
            ),
            (
                "_ZN5tokio4sync4mpsc4chan14Rx$LT$T$C$S$GT$4recv17h0123456789abcdefE",
                Some(Kind::Receives),
            ),
            (
                "_ZN5hyper5proto2h18dispatch29Dispatcher$LT$D$C$Bs$C$I$C$T$GT$10poll_write17h0123456789abcdefE",
                Some(Kind::Hyper),
            ),
            (
                "_ZN99_$LT$hyper..proto..h1..dispatch..Client$LT$B$GT$$u20$as$u20$hyper..proto..h1..dispatch..Dispatch$GT$8recv_msg17h0123456789abcdefE",
                Some(Kind::Hyper),
            ),
            (
                "_ZN5hyper6client8dispatch19Sender$LT$T$C$U$GT$8try_send17h0123456789abcdefE",
                Some(Kind::Hyper),
            ),
            (
                "_ZN10hyper_util6client6legacy6client19Client$LT$C$C$B$GT$12send_request28_$u7b$$u7b$closure$u7d$$u7d$17h0123456789abcdefE",
                Some(Kind::Hyper),
            ),
            (
                "_ZN4core3ptr90drop_in_place$LT$hyper..client..dispatch..Sender$GT$17h0123456789abcdefE",
                None,
            ),
            (
                "_RNvMs0_NtNtNtCs1_5tokio7runtime4task4listINtB5_10OwnedTasksNtB2_1SE10bind_innerCs2_3app",
                Some(Kind::Starts),
            ),
            (
                "_RINvNtNtNtCs1_5tokio7runtime4task3raw21drop_join_handle_slowNtB2_1TNtB2_1SECs2_3app",
                Some(Kind::Joins),
            ),
            (
                "_RNvMs1_NtNtNtCs1_5tokio7runtime4task4coreNtB5_11TaskIdGuard5enter",
                Some(Kind::SetsCurrent),
            ),
            ("_ZN4core3fmt5write17h0123456789abcdefE", None),
            ("main", None),
        ] {
            assert_eq!(Kind::of(name), kind, "{name}");
        }
    }
}
