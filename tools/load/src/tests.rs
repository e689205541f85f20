//! Complete runs against a tiny server, correct or faulty: every fault must end the run with a message.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use clap::Parser;
use zabra::jute::stat::put_stat;
use zabra::jute::{Put, Reader};
use zabra::proto::reply::put_reply_header;
use zabra::proto::{ConnectRequest, ConnectResponse, Request, RequestHeader};
use zabra::types::{ErrorCode, Op, SessionId, Stat, Zxid};

use crate::args::Args;
use crate::report::Report;
use crate::{Result, load};

/// How the server misbehaves, after so many requests that set-up is over.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    WrongXid,
    ZxidFalls,
    ErrorCode,
    WrongData,
    HangsUp,
    Silent,
}

fn frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut len = [0; 4];
    stream.read_exact(&mut len).ok()?;
    let mut bytes = vec![0; u32::from_be_bytes(len) as usize];
    stream.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

/// Serves one connection. Every znode has whatever was written last, to any path.
fn serve(mut stream: TcpStream, fault: Fault, data: &Mutex<Vec<u8>>) -> Option<()> {
    ConnectRequest::read(&frame(&mut stream)?).ok()?;
    let mut out = Vec::new();
    ConnectResponse { timeout_ms: 30_000, session: SessionId(7), passwd: [1; 16], read_only: Some(false) }
        .put(&mut out);
    stream.write_all(&out).ok()?;
    let mut zxid = 100;
    for n in 0.. {
        let request = frame(&mut stream)?;
        let mut r = Reader::new(&request);
        let header = RequestHeader::read(&mut r).ok()?;
        let mut fault = if n >= 40 && header.op == Op::GET_DATA { fault } else { Fault::None };
        if n % 2 == 1 && fault == Fault::ZxidFalls {
            fault = Fault::None;
        }
        zxid += 1;
        match fault {
            Fault::HangsUp => return None,
            Fault::Silent => continue,
            _ => {}
        }
        let mut data = data.lock().unwrap();
        out.clear();
        let f = out.begin_frame();
        let stamp = if fault == Fault::ZxidFalls { Zxid(3) } else { Zxid(zxid) };
        let code = if fault == Fault::ErrorCode { ErrorCode::NoNode } else { ErrorCode::Ok };
        put_reply_header(&mut out, header.xid + i32::from(fault == Fault::WrongXid), stamp, code);
        let stat = Stat { mzxid: Zxid(zxid), version: 1, data_length: data.len() as i32, ..Stat::default() };
        match Request::read(header.op, r.rest()).ok()?? {
            Request::Create(c) => {
                *data = c.data.unwrap_or_default().to_vec();
                out.put_string(&c.path);
            }
            Request::SetData { data: new, .. } => {
                *data = new.unwrap_or_default().to_vec();
                put_stat(&mut out, &Stat { data_length: data.len() as i32, ..stat });
            }
            Request::GetData { .. } => {
                let mut sent = data.clone();
                if fault == Fault::WrongData {
                    sent[50] ^= 1;
                }
                out.put_buffer(Some(&sent));
                put_stat(&mut out, &stat);
            }
            _ => {}
        }
        out.end_frame(f);
        stream.write_all(&out).ok()?;
    }
    None
}

fn server(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let data = Arc::new(Mutex::new(Vec::new()));
        for stream in listener.incoming() {
            let data = data.clone();
            thread::spawn(move || serve(stream.unwrap(), fault, &data));
        }
    });
    address
}

fn run(fault: Fault, more: &str) -> Result<Report> {
    let address = server(fault);
    let line = format!(
        "zabra-load {more} --keys 10 --connections 2 --warm-up 0.05 --seconds 0.3 --stall 0.4 -q --server {address}"
    );
    load(&Args::parse_from(line.split_whitespace()))
}

#[test]
fn an_honest_server_is_measured() {
    for more in ["get", "get --depth 7", "set --depth 3", "mixed --reads 50", "create", "delete --nodes 100000"] {
        let report = run(Fault::None, more).unwrap();
        assert!(report.rate() > 10.0, "{more}: {}", report.text().unwrap());
        let json = report.json().unwrap();
        assert_eq!(json["latency_us"]["count"], json["ops"], "{more}");
    }
}

#[test]
fn an_open_loop_offers_what_it_was_told() {
    let report = run(Fault::None, "get --rate 500").unwrap();
    assert!(report.rate() < 600.0, "{}", report.rate());
    assert!(report.text().unwrap().contains("from the real send"));
}

#[test]
fn every_fault_ends_the_run() {
    for (fault, words) in [
        (Fault::WrongXid, "reply out of order"),
        (Fault::ZxidFalls, "zxid fell"),
        (Fault::ErrorCode, "get failed: NoNode (-101)"),
        (Fault::WrongData, "get: wrong reply body"),
        (Fault::HangsUp, "closed the connection"),
        (Fault::Silent, "no answer for"),
    ] {
        match run(fault, "get") {
            Err(error) => assert!(error.contains(words), "{error}"),
            Ok(report) => panic!("{words} went unseen: {}", report.text().unwrap()),
        }
    }
}

/// Whether the bare server can run here. Prints a line if its tests are left out; if `ZABRA_TEST_NEEDS_IO_URING` is
/// set, as in CI, that fails.
fn has_io_uring() -> bool {
    let Err(why) = crate::bare::ring::Ring::new() else { return true };
    assert!(std::env::var_os("ZABRA_TEST_NEEDS_IO_URING").is_none(), "io_uring cannot be tested: {why}");
    eprintln!("left out, what runs on io_uring: {why}");
    false
}

#[test]
fn the_bare_server_answers_in_the_sizes_of_a_load() {
    if !has_io_uring() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || crate::bare::server::serve(listener));
    // 30,000 bytes need several receive buffers.
    for more in
        ["get", "set -d 9", "create", "mixed --reads 50 -d 40", "multi", "get --rate 500", "set -d 3 --size 30000"]
    {
        let line = format!(
            "zabra-load echo --like {more} --connections 3 --warm-up 0.05 --seconds 0.3 --stall 2 -q --server {address}"
        );
        let report = load(&Args::parse_from(line.split_whitespace())).unwrap_or_else(|e| panic!("{more}: {e}"));
        assert!(report.rate() > 10.0, "{more}: {}", report.text().unwrap());
        let json = report.json().unwrap();
        assert_eq!(json["latency_us"]["count"], json["ops"], "{more}");
        let curve = json["latency_curve_us"].as_array().unwrap();
        assert_eq!(curve.last().unwrap()[0], 100.0, "{more}");
    }
}

#[test]
fn the_bare_server_hangs_up_on_nonsense() {
    if !has_io_uring() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || crate::bare::server::serve(listener));
    for nonsense in [[0xff; 12], [0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0]] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&nonsense).unwrap();
        assert_eq!(stream.read(&mut [0; 16]).unwrap_or(0), 0);
    }
}

#[test]
fn the_disk_probe_syncs_records_and_leaves_nothing() {
    let dir = std::env::temp_dir().join(format!("zabra-load-disk-test-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let line = format!("zabra-load disk --like set --warm-up 0 --seconds 0.2 -q --dir {}", dir.display());
    let report = load(&Args::parse_from(line.split_whitespace())).unwrap();
    assert!(report.rate() > 1.0);
    assert_eq!(report.json().unwrap()["arguments"]["record_bytes"], 192);
    std::fs::remove_dir(&dir).unwrap();
    let error = load(&Args::parse_from(line.split_whitespace())).err().unwrap();
    assert!(error.contains("No such file"), "{error}");
}
