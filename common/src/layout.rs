//! Where the running kernel keeps what the programs read. The agent finds the offsets in the kernel's
//! BTF and hands them over as one read-only global before load, so that the verifier sees constants.

/// No such member in this kernel.
pub const ABSENT: u32 = u32::MAX;

macro_rules! layout {
    ($($field:ident: $container:literal . $member:tt),* $(,)?) => {
        /// Byte offsets into kernel structs; [`ABSENT`] where the kernel has no such member.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct KernelLayout {
            $(#[doc = concat!("`", $container, ".", stringify!($member), "`")] pub $field: u32,)*
        }

        impl KernelLayout {
            /// A layout in which every member is absent.
            pub const NONE: Self = Self { $($field: ABSENT,)* };

            /// What to look up: struct and member (dots descend into nested members).
            pub const MEMBERS: &'static [(&'static str, &'static str)] = &[$(($container, $member),)*];

            /// The layout whose offsets are `offsets`, in the order of [`Self::MEMBERS`].
            #[must_use]
            pub const fn from_offsets(offsets: &[u32; Self::MEMBERS.len()]) -> Self {
                let mut at = 0;
                $(let $field = offsets[at]; at += 1;)*
                let _ = at;
                Self { $($field,)* }
            }
        }
    };
}

/// Where a thread that does not run has the register from which its variables are found. A library sets it when it makes the
/// thread, so that it is the same while the thread runs.
const THREAD_POINTER: &str =
    if cfg!(target_arch = "aarch64") { "thread.uw.tp_value" } else { "thread.fsbase" };

layout! {
    task_files: "task_struct"."files",
    task_tgid: "task_struct"."tgid",
    task_pid: "task_struct"."pid",
    task_group_leader: "task_struct"."group_leader",
    task_start_boottime: "task_struct"."start_boottime",
    task_thread_pid: "task_struct"."thread_pid",
    pid_level: "pid"."level",
    pid_numbers: "pid"."numbers",
    upid_nr: "upid"."nr",
    upid_ns: "upid"."ns",
    pid_namespace_inum: "pid_namespace"."ns.inum",
    task_signal: "task_struct"."signal",
    task_io_uring: "task_struct"."io_uring",
    task_thread_pointer: "task_struct".THREAD_POINTER,
    signal_live: "signal_struct"."live",
    files_fdt: "files_struct"."fdt",
    fdtable_max_fds: "fdtable"."max_fds",
    fdtable_fd: "fdtable"."fd",
    file_inode: "file"."f_inode",
    file_private_data: "file"."private_data",
    inode_mode: "inode"."i_mode",
    inode_ino: "inode"."i_ino",
    socket_type: "socket"."type",
    socket_sk: "socket"."sk",
    socket_file: "socket"."file",
    sock_family: "sock_common"."skc_family",
    sock_state: "sock_common"."skc_state",
    sock_dport: "sock_common"."skc_dport",
    sock_num: "sock_common"."skc_num",
    sock_daddr: "sock_common"."skc_daddr",
    sock_rcv_saddr: "sock_common"."skc_rcv_saddr",
    sock_v6_daddr: "sock_common"."skc_v6_daddr",
    sock_v6_rcv_saddr: "sock_common"."skc_v6_rcv_saddr",
    sock_net: "sock_common"."skc_net",
    sock_err: "sock"."sk_err",
    sock_type: "sock"."sk_type",
    sock_protocol: "sock"."sk_protocol",
    sock_socket: "sock"."sk_socket",
    sock_shutdown: "sock"."sk_shutdown",
    sock_user_data: "sock"."sk_user_data",
    icsk_ulp_ops: "inet_connection_sock"."icsk_ulp_ops",
    tcp_copied_seq: "tcp_sock"."copied_seq",
    tcp_rcv_nxt: "tcp_sock"."rcv_nxt",
    tcp_bytes_received: "tcp_sock"."bytes_received",
    tcp_write_seq: "tcp_sock"."write_seq",
    tcp_snd_nxt: "tcp_sock"."snd_nxt",
    tcp_snd_una: "tcp_sock"."snd_una",
    tcp_bytes_sent: "tcp_sock"."bytes_sent",
    tcp_bytes_retrans: "tcp_sock"."bytes_retrans",
    tcp_bytes_acked: "tcp_sock"."bytes_acked",
    net_inum: "net"."ns.inum",
    unix_addr: "unix_sock"."addr",
    unix_peer: "unix_sock"."peer",
    unix_address_len: "unix_address"."len",
    unix_address_name: "unix_address"."name",
}

/// `sizeof(struct upid)`.
pub const UPID_SIZE: u64 = 16;

/// A pid namespace: the device (as the kernel has it: the major number above 20 bits of minor) and the inode
/// of its file. Processes go by the numbers that they have in the agent's; only those are seen that are in it, unless it
/// is the initial one, which all are in.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PidNamespace {
    pub device: u64,
    pub inode: u64,
}

impl PidNamespace {
    /// The one that the system started with, `PROC_PID_INIT_INO` (include/linux/proc_ns.h).
    pub const INITIAL: Self = Self { device: 0, inode: 0xefff_fffc };
}
