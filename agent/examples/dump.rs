use remora::{bpf, decode::Record};
fn main() {
    tracing_subscriber::fmt().with_env_filter("debug").init();
    let door = std::env::args().nth(1).unwrap();
    let pids: Vec<u32> = std::env::args().skip(2).map(|p| p.parse().unwrap()).collect();
    let t = std::time::Instant::now();
    let mut p = bpf::Programs::attach(&bpf::Options { door: bpf::Door::ALL.into_iter().find(|d| d.as_str() == door), ..Default::default() }).unwrap_or_else(|e| { eprintln!("{e:#?}"); std::process::exit(1) });
    eprintln!("door {:?} refused {:?} in {:?}", p.door(), p.refusals().len(), t.elapsed());
    for i in aya::programs::loaded_programs().flatten() { println!("{:?} verified {:?} xlated {:?}", i.name_as_str(), i.verified_instruction_count(), i.size_translated()); }
    let (targets, control, _v) = p.shared().unwrap();
    let mut r = p.reader().unwrap();
    for pid in pids { targets.set(pid, 3); }
    let end = std::time::Instant::now() + std::time::Duration::from_secs(std::env::var("SECS").ok().and_then(|s| s.parse().ok()).unwrap_or(3));
    let quiet = std::env::var("QUIET").is_ok();
    let mut n = 0;
    while std::time::Instant::now() < end {
        r.drain(usize::MAX, |b| { n += 1; if quiet { return; }
            match Record::decode(b).unwrap() {
                Record::Data(d) => println!("{:?} conn {} pos {} total {} head {} flags {} tail {:?} {:?}", d.direction, d.header.conn_id, d.header.pos, d.header.total_len, d.header.head_len, d.header.flags, String::from_utf8_lossy(&d.header.tail), String::from_utf8_lossy(&d.head[..d.head.len().min(60)])),
                o => println!("{o:?}"),
            } });
        r.wait(&control);
    }
    println!("{n} records, drops {:?}", p.drops().unwrap());
    let t = std::time::Instant::now(); drop(p); eprintln!("detached in {:?}", t.elapsed());
}
