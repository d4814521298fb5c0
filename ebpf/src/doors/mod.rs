//! The doors: how a program comes to see a finished system call. They differ in what they cost the
//! calls that are not ours; the agent takes the best that loads.
//!
//! - [`socket`]: in the socket layer. Costs nothing but sends and receives anything.
//! - [`fexit`]: on the entry functions of just the calls we want. Costs other calls nothing.
//! - [`exit`]: one program at the end of every system call. Where trampolines are refused.
//! - [`tracepoint`]: per-call tracepoints, arguments remembered from entry to exit. Everywhere else.

mod exit;
mod fexit;
mod registers;
mod socket;
pub mod tracepoint;
