//! BPF programs, maps and links that a process holds, and which of them the kernel still has. Told by
//! id: other agents may come and go meanwhile.

use std::{collections::BTreeSet, fs, io};

use aya::{
    maps::loaded_maps,
    programs::{loaded_links, loaded_programs},
};

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

    /// Those of them that the kernel has now.
    #[must_use]
    pub fn left(&self) -> Self {
        // One that goes away between being listed and being looked at is gone.
        let programs = loaded_programs().flatten().map(|program| program.id()).collect();
        let maps = loaded_maps().flatten().map(|map| map.id()).collect();
        let links = loaded_links().flatten().map(|link| link.id()).collect();
        Self {
            programs: &self.programs & &programs,
            maps: &self.maps & &maps,
            links: &self.links & &links,
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.programs.is_empty() && self.maps.is_empty() && self.links.is_empty()
    }
}
