//! The recorded conversations of Apache servers: `vectors/README.md` explains the files.

use std::fs;
use std::path::PathBuf;

use zabra::types::ServerId;

/// The kind of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Kind {
    Hello,
    Notification,
    Token,
    Learner,
    Leader,
    State,
    End,
}

/// One message of a recording.
pub struct Message {
    /// File and line, for error messages.
    pub place: String,
    /// Milliseconds since the first message of the file, if they were recorded.
    pub at_ms: Option<f64>,
    /// `e`, `q` or `o` and a number.
    pub connection: String,
    /// The sender; `None` for a connection that was closed before its server had sent its id.
    pub from: Option<ServerId>,
    /// The receiver.
    pub to: Option<ServerId>,
    pub kind: Kind,
    /// Empty for [`Kind::End`].
    pub bytes: Vec<u8>,
}

/// One recording.
pub struct Walk {
    pub name: String,
    /// The lines of the servers' configuration.
    pub config: Vec<String>,
    pub messages: Vec<Message>,
}

/// All files, by name.
pub fn walks() -> Vec<Walk> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/ensemble/vectors");
    let paths = fs::read_dir(dir).expect("the vectors").map(|e| e.expect("an entry").path());
    let mut walks: Vec<Walk> = paths
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .map(|path| {
            let name = path.file_stem().and_then(|n| n.to_str()).expect("a name").to_owned();
            let text = fs::read_to_string(&path).expect("text");
            let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with(['#', '=']));
            let messages = lines.map(|(at, line)| message(&format!("{name}:{}", at + 1), line)).collect();
            let config = text.lines().filter_map(|line| line.strip_prefix("= ")).map(str::to_owned).collect();
            Walk { name, config, messages }
        })
        .collect();
    walks.sort_by(|a, b| a.name.cmp(&b.name));
    walks
}

fn message(place: &str, line: &str) -> Message {
    let fields: Vec<&str> = line.split(' ').collect();
    let [time, connection, ends, kind, bytes] = fields[..] else { panic!("{place}: {} fields", fields.len()) };
    let (from, to) = ends.split_once('>').unwrap_or_else(|| panic!("{place}: {ends}"));
    let number = |text: &str| text.parse().unwrap_or_else(|e| panic!("{place}: {text}: {e}"));
    let server = |text: &str| (text != "-").then(|| ServerId(number(text)));
    let at_ms = (time != "-").then(|| time.parse().unwrap_or_else(|e| panic!("{place}: {time}: {e}")));
    let kind = match kind {
        "hello" => Kind::Hello,
        "notification" => Kind::Notification,
        "token" => Kind::Token,
        "learner" => Kind::Learner,
        "leader" => Kind::Leader,
        "state" => Kind::State,
        "end" => Kind::End,
        other => panic!("{place}: {other}"),
    };
    let bytes = if kind == Kind::End { Vec::new() } else { unhex(place, bytes) };
    let connection = connection.to_owned();
    Message { place: place.to_owned(), at_ms, connection, from: server(from), to: server(to), kind, bytes }
}

fn unhex(place: &str, text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "{place}: half a byte");
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap_or_else(|e| panic!("{place}: {e}"));
    (0..text.len()).step_by(2).map(byte).collect()
}
