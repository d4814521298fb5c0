//! BPF programs, maps and links that a process holds, and which of them the kernel still has. Told by
//! id: other agents may come and go meanwhile.

use std::{collections::BTreeSet, fs, io};

use aya::{maps::loaded_maps, programs::loaded_programs};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelObjects {
    pub programs: BTreeSet<u32>,
    pub maps: BTreeSet<u32>,
    pub links: BTreeSet<u32>,
}

impl KernelObjects {
    /// What the descriptors of `pid` refer to, and the maps of its programs.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn of(pid: u32) -> io::Result<Self> {
        let mut held = Self::default();
        for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
            // A descriptor may be closed meanwhile.
            let Ok(info) = fs::read_to_string(entry?.path()) else { continue };
            for line in info.lines() {
                let Some((key, value)) = line.split_once(':') else { continue };
                let Ok(id) = value.trim().parse() else { continue };
                match key {
                    "prog_id" => _ = held.programs.insert(id),
                    "map_id" => _ = held.maps.insert(id),
                    "link_id" => _ = held.links.insert(id),
                    _ => {}
                }
            }
        }
        for program in loaded_programs().flatten() {
            if held.programs.contains(&program.id())
                && let Ok(Some(maps)) = program.map_ids()
            {
                held.maps.extend(maps);
            }
        }
        Ok(held)
    }

    /// Those of them that the kernel has now. Told by their numbers alone: to open a map of programs that goes away makes the
    /// kernel keep it for ever (`prog_array_map_clear` takes a reference for work that is pending already).
    ///
    /// # Panics
    /// If the kernel does not tell.
    #[must_use]
    pub fn left(&self) -> Self {
        /// `BPF_PROG_GET_NEXT_ID`, `BPF_MAP_GET_NEXT_ID`, `BPF_LINK_GET_NEXT_ID` (include/uapi/linux/bpf.h).
        const NEXT: [libc::c_long; 3] = [11, 12, 31];
        let [programs, maps, links] = NEXT.map(ids);
        Self {
            programs: &self.programs & &programs,
            maps: &self.maps & &maps,
            links: &self.links & &links,
        }
    }

    /// How many entries the hash map `name` has that is one of these; `None` if there is none.
    ///
    /// # Panics
    /// If its keys are not of four bytes.
    #[must_use]
    pub fn entries(&self, name: &str) -> Option<usize> {
        /// `BPF_MAP_GET_NEXT_KEY` (include/uapi/linux/bpf.h), and its arguments.
        const NEXT_KEY: libc::c_long = 4;
        #[repr(C)]
        struct Arguments {
            map_fd: u32,
            reserved: u32,
            key: u64,
            next_key: u64,
        }
        let is_it = |map: &aya::maps::MapInfo| {
            self.maps.contains(&map.id()) && map.name_as_str() == Some(name)
        };
        let map = loaded_maps().flatten().find(is_it)?;
        assert_eq!(map.key_size(), 4, "{name}");
        let fd = map.fd().ok()?;
        let (mut key, mut next, mut count) = (None, 0u32, 0);
        loop {
            let key_at = key.as_ref().map_or(0, |key: &u32| std::ptr::from_ref(key) as u64);
            let arguments = Arguments {
                map_fd: std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(&fd)) as u32,
                reserved: 0,
                key: key_at,
                next_key: &raw mut next as u64,
            };
            // SAFETY: the arguments of this command; both keys are as long as the map's.
            let result = unsafe {
                let size = size_of_val(&arguments);
                libc::syscall(libc::SYS_bpf, NEXT_KEY, &raw const arguments, size)
            };
            if result != 0 {
                return Some(count);
            }
            count += 1;
            key = Some(next);
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.programs.is_empty() && self.maps.is_empty() && self.links.is_empty()
    }
}

/// Numbers of all objects that `command` tells the next one of.
fn ids(command: libc::c_long) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    // `start_id`, `next_id`, `open_flags`.
    let mut arguments = [0u32; 3];
    loop {
        // SAFETY: the arguments of these commands.
        let result = unsafe {
            let size = size_of_val(&arguments);
            libc::syscall(libc::SYS_bpf, command, &raw mut arguments, size)
        };
        if result != 0 {
            let error = io::Error::last_os_error();
            assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{error}");
            return found;
        }
        found.insert(arguments[1]);
        arguments[0] = arguments[1];
    }
}
