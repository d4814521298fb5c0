//! What is written is read again; what is damaged is said.

use std::{fs, path::Path, sync::Arc};

use remora_common::record::{self, Direction, Kind, ProcessChange};
use tempfile::TempDir;

use super::{
    block::encode,
    format::{self, BLOCK_HEADER_LEN, End, Facts, HEADER_LEN, Layout, Target, VERSION, section},
    read::{ReadError, Reader, Section},
    write::Recorder,
};
use crate::{
    assemble::{self, Assembler},
    attribute::Value,
    clock::ClockOffset,
    decode::{Data, Record},
    exchange::{Exchange, Sink, Started},
    resource::Resource,
};

struct Nowhere;

impl Sink for Nowhere {
    fn started(&mut self, _: &Started) {}
    fn finished(&mut self, _: Exchange) {}
    fn lost(&mut self, _: u64, _: crate::accounting::Lost) {}
    fn answered(&mut self, _: u64) {}
    fn capture(&mut self, _: u64, _: u8) {}
}

fn facts() -> Facts {
    Facts {
        agent: "0.0.1".into(),
        layout: Layout::HERE,
        limits: format::Limits::of(&assemble::Limits::default()),
        seed: [u64::MAX, 2, 3, 4],
        start_mono_ns: 5,
        offset_ns: -7,
        host: format::attributes([("host.name", &Value::from("h"))]),
        door: "fexit".into(),
        selection: "all".into(),
        query_keys: vec!["own".into()],
    }
}

fn resource() -> Arc<Resource> {
    Arc::new(Resource::new([
        ("service.name".into(), "shop".into()),
        ("process.pid".into(), Value::Int(7)),
        ("d".into(), Value::Double(1.5)),
        ("list".into(), Value::Strs(vec!["a".into(), "b".into()])),
        ("truth".into(), Value::Bool(true)),
    ]))
}

const HEAD: &[u8] = b"GET /a?token=s3cret HTTP/1.1\r\nCookie: s3cret\r\n\r\n";

fn data(pos: u64) -> record::Data {
    record::Data {
        kind: Kind::Data as u8,
        mono_ns: 10 + pos,
        conn_id: 9,
        pos,
        tgid: 7,
        total_len: HEAD.len() as u32,
        head_len: HEAD.len() as u32,
        ..record::Data::default()
    }
}

fn orphan() -> record::Close {
    record::Close { kind: Kind::Close as u8, conn_id: 9, pos_rx: 4, ..record::Close::default() }
}

fn end() -> End {
    let drops = vec![("ring_full".to_owned(), 3)];
    End { mono_ns: 99, drops, ..End::default() }
}

/// A recording with a section of each type, with as many records.
fn write(path: &Path, records: u64) {
    let mut recorder = Recorder::create(path, &facts()).unwrap();
    let mut assembler = Assembler::new(assemble::Limits::default());
    assembler.keep();
    recorder.target(7, 1, &resource());
    for n in 0..records {
        let header = data(n * HEAD.len() as u64);
        let source = record::Source::Socket;
        let data = Data { direction: Direction::Rx, source, header: &header, head: HEAD };
        let record = Record::Data(data);
        assembler.record(&record, &mut Nowhere);
        recorder.record(&record, assembler.kept());
    }
    let process = record::Process {
        kind: Kind::Process as u8,
        tgid: 8,
        comm: *b"somebody else's\0",
        ..record::Process::default()
    };
    recorder.record(&Record::Process { change: ProcessChange::Exec, process: &process }, None);
    recorder.undecodable();
    recorder.offset(ClockOffset::fixed(-7));
    recorder.offset(ClockOffset::fixed(-8));
    recorder.tick(50);
    recorder.forgot(51);
    recorder.orphan(&orphan());
    recorder.gone(7);
    let summary = recorder.finish(&end());
    assert_eq!((summary.records, summary.missing, summary.whole), (records + 2, 0, true));
    assert_eq!(summary.bytes, fs::metadata(path).unwrap().len());
}

/// Names of all sections, and what ended them.
fn sections(bytes: &[u8]) -> (Vec<String>, Option<ReadError>) {
    let mut names = Vec::new();
    let mut reader = match Reader::new(bytes) {
        Ok(reader) => reader,
        Err(error) => return (names, Some(error)),
    };
    loop {
        match reader.next() {
            Ok(Some(section)) => {
                names.push(format!("{section:?}").split([' ', '(']).next().unwrap().into())
            }
            Ok(None) => return (names, None),
            Err(error) => return (names, Some(error)),
        }
    }
}

#[test]
fn what_is_written_is_read_again_without_secrets() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("recording");
    write(&path, 3);
    let mut reader = Reader::open(&path).unwrap();
    assert_eq!(reader.facts(), &facts());
    let Some(Section::Target(target)) = reader.next().unwrap() else { panic!() };
    let Target { tgid, selector, resource: attributes, .. } = target;
    assert_eq!((tgid, selector, format::resource(&attributes)), (7, 1, (*resource()).clone()));
    for n in 0..3 {
        let Some(Section::Record(sample)) = reader.next().unwrap() else { panic!() };
        let Ok(Record::Data(found)) = Record::decode(sample) else { panic!() };
        assert_eq!(*found.header, data(n * HEAD.len() as u64));
        assert_eq!(found.head, b"GET /a?token=xxxxxx HTTP/1.1\r\nxxxxxxxxxxxxxx\r\n\r\n");
    }
    let Some(Section::Record(sample)) = reader.next().unwrap() else { panic!() };
    let Ok(Record::Process { process, .. }) = Record::decode(sample) else { panic!() };
    assert_eq!((process.tgid, process.comm), (8, [0; 16]), "of a process that nobody selected");
    assert_eq!(reader.next().unwrap(), Some(Section::Undecodable));
    assert_eq!(reader.next().unwrap(), Some(Section::Offset(ClockOffset::fixed(-8))));
    assert_eq!(reader.next().unwrap(), Some(Section::Tick(50)));
    assert_eq!(reader.next().unwrap(), Some(Section::Forgot(51)));
    assert_eq!(reader.next().unwrap(), Some(Section::Orphan(orphan())));
    assert_eq!(reader.next().unwrap(), Some(Section::Gone(7)));
    assert_eq!(reader.next().unwrap(), Some(Section::End(end())));
    assert_eq!(reader.next().unwrap(), None);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_cut_recording_is_read_as_far_as_it_is_whole() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("recording");
    write(&path, 3000);
    let bytes = fs::read(&path).unwrap();
    let (all, error) = sections(&bytes);
    assert!(error.is_none() && all.len() == 3009);
    let mut longest = 0;
    for len in (0..bytes.len()).step_by(7) {
        let (found, error) = sections(&bytes[..len]);
        assert_eq!(found, all[..found.len()]);
        assert!(found.len() >= longest, "at {len}");
        longest = found.len();
        match error {
            None => assert!(longest > 0, "at {len}"),
            Some(ReadError::Foreign { .. }) if len == 0 => {}
            Some(ReadError::Cut { offset, found, expected, .. }) => {
                assert!(offset < len.max(1) as u64 + 1 && found < expected, "at {len}");
            }
            Some(other) => panic!("{other} at {len}"),
        }
    }
    assert!(longest > 1000 && longest < all.len());
}

#[test]
fn every_damaged_byte_is_noticed() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("recording");
    write(&path, 2);
    let mut bytes = fs::read(&path).unwrap();
    for at in 0..bytes.len() {
        if (12..HEADER_LEN).contains(&at) {
            continue; // reserved
        }
        bytes[at] ^= 0x10;
        let (_, error) = sections(&bytes);
        let error = error.unwrap_or_else(|| panic!("byte {at}"));
        assert!(error.to_string().contains("offset"), "{error}");
        bytes[at] ^= 0x10;
    }
}

#[test]
fn errors_say_what_was_found_where_and_what_was_expected() {
    let (_, error) = sections(b"{\"resourceSpans\":[]}");
    let error = error.unwrap().to_string();
    assert!(
        error.contains("not a recording: found `{\\\"resour` at offset 0, expected `\\x89RMR"),
        "{error}"
    );
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("recording");
    write(&path, 2);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = VERSION as u8 + 1;
    let error = sections(&bytes).1.unwrap().to_string();
    assert!(error.contains("version 2 at offset 8, expected 1 or less"), "{error}");
    bytes[8] = VERSION as u8;
    bytes[HEADER_LEN + BLOCK_HEADER_LEN + 30] ^= 1;
    let error = sections(&bytes).1.unwrap().to_string();
    assert!(error.starts_with("damaged at offset 16: found a block with the checksum"), "{error}");
}

#[test]
fn sections_of_a_later_version_are_stepped_over() {
    let bytes =
        encode(&facts(), [(77, &b"what nobody knows yet"[..]), (section::GONE, &[7, 0, 0, 0])])
            .unwrap();
    let mut reader = Reader::new(&*bytes).unwrap();
    assert_eq!(reader.next().unwrap(), Some(Section::Unknown(77)));
    assert_eq!(reader.next().unwrap(), Some(Section::Gone(7)));
    assert_eq!(reader.next().unwrap(), None);
}

#[test]
fn records_of_other_lengths_are_laid_out_anew() {
    use zerocopy::IntoBytes;
    let header = data(0);
    let here = Layout::HERE.data;
    for len in [here - 8, here + 16] {
        let mut bytes = header.as_bytes().to_vec();
        bytes.resize(len, 0xff);
        bytes.extend_from_slice(HEAD);
        let facts = Facts { layout: Layout { data: len, ..Layout::HERE }, ..facts() };
        let bytes = encode(&facts, [(section::RECORD, &*bytes)]).unwrap();
        let mut reader = Reader::new(&*bytes).unwrap();
        let Some(Section::Record(sample)) = reader.next().unwrap() else { panic!() };
        let Ok(Record::Data(found)) = Record::decode(sample) else { panic!() };
        assert_eq!((*found.header, found.head), (header, HEAD), "its last member is 0");
    }
}

#[test]
fn a_full_disk_ends_the_recording_and_is_counted() {
    let error = Recorder::create(Path::new("/dev/full"), &facts()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    let error = Recorder::create(Path::new("/proc"), &facts()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}
