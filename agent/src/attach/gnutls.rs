//! Where in GnuTLS the plaintext passes: from an ELF file to file offsets.

use std::fs::File;

use object::read::ReadCache;

use super::{
    image::{Image, NoFunction, Wanted},
    plan::{Library, Plan, Via},
};
use crate::bpf::Probe;

const SEND: &str = "gnutls_record_send";
const SEND_2: &str = "gnutls_record_send2";

const WANTED: Wanted = Wanted {
    prefix: b"gnutls_",
    names: &["gnutls_handshake", "gnutls_record_recv", SEND, SEND_2],
    mark: None,
};

/// A function of so many bytes does not encrypt: it goes on to the one that does.
const LONGEST_JUMP: u64 = 16;

/// What to attach to `file`. The functions take `(session, data, size)` and give the count of bytes, or what is wrong as a negative
/// number, as those of OpenSSL do.
///
/// # Errors
/// A function is missing.
pub fn plan(file: &File) -> Result<Plan, NoFunction> {
    let cache = ReadCache::new(file);
    let image = Image::parse(file, &cache, &WANTED)?;
    let mut functions = vec![
        (Probe::SslDoHandshake, "gnutls_handshake"),
        (Probe::SslRead, "gnutls_record_recv"),
        (Probe::SslWrite, SEND),
    ];
    // Since 3.6.3.
    if image.function(SEND_2).is_ok() {
        if (1..=LONGEST_JUMP).contains(&image.len_of(SEND)) {
            functions.pop();
        }
        functions.push((Probe::SslWrite, SEND_2));
    }
    let mut points = Vec::new();
    for (probe, name) in functions {
        let at = image.place(name, image.function(name)?)?;
        points.extend([(probe, at), (Probe::SslReturn, at)]);
    }
    Ok(Plan { library: Library::GnuTls, version: String::new(), via: Via::Exports, points })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_functions_of_the_systems_library() {
        let library = "/usr/lib/x86_64-linux-gnu/libgnutls.so.30";
        let Ok(file) = File::open(library) else {
            println!("skipped: no {library}");
            return;
        };
        let plan = plan(&file).unwrap();
        let entries = plan.points.iter().map(|(probe, _)| *probe);
        let entries: Vec<_> = entries.filter(|probe| *probe != Probe::SslReturn).collect();
        assert_eq!(entries, [Probe::SslDoHandshake, Probe::SslRead, Probe::SslWrite], "{plan:?}");
    }

    #[test]
    fn a_program_without_it_has_none() {
        let own = File::open("/proc/self/exe").unwrap();
        assert!(matches!(plan(&own), Err(NoFunction::Undefined("gnutls_handshake"))));
    }
}
