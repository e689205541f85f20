//! Rules of this repository that a program can check: which module may import which, and how long files and functions
//! may be.

use std::fs;
use std::path::{Path, PathBuf};

/// The folders of `src/`, lowest layer first. A folder may import another one of its layer only if `SIBLINGS_MAY` lists
/// the pair.
const LAYERS: [&[&str]; 11] = [
    &["limits", "types"],
    &["jute"],
    &["auth", "proto", "txn"],
    &["quorum", "tree", "watch", "session", "txnlog"],
    &["pipeline", "zab"],
    &["peer", "shard"],
    // Only for tests and the simulator; not in the shipped server.
    &["oracle"],
    // The configuration is plain data. It is above the state machines because only it and the runtime read files.
    &["config"],
    &["sim", "runtime"],
    &["cli"],
    &["main"],
];

/// (importer, imported) pairs that are allowed inside one layer.
const SIBLINGS_MAY: [(&str, &str); 2] = [
    // Recovery loads a snapshot into a tree and replays the logs.
    ("txnlog", "tree"),
    ("types", "limits"),
];

/// (importer, imported) pairs that the layers would allow but the design forbids.
const NEVER: [(&str, &str); 7] = [
    ("zab", "tree"),
    ("zab", "pipeline"),
    ("tree", "watch"),
    ("proto", "txn"),
    ("config", "oracle"),
    ("runtime", "oracle"),
    ("cli", "oracle"),
];

const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 80;

fn sources() -> Vec<PathBuf> {
    sources_in(&["src"])
}

/// The Rust files in these folders, but for what was built.
fn sources_in(folders: &[&str]) -> Vec<PathBuf> {
    fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
        let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() && !path.ends_with("target") {
                walk(&path, out);
            } else if path.extension().is_some_and(|e| e == "rs") {
                out.push(path);
            }
        }
    }
    let mut out = Vec::new();
    folders.iter().for_each(|f| walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(f), &mut out));
    out
}

fn part(path: &Path) -> String {
    let rest = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    rest.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

fn layer(part: &str) -> Option<usize> {
    LAYERS.iter().position(|l| l.contains(&part))
}

/// The modules named after `crate::` in a line.
fn imports(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for piece in line.split("crate::").skip(1) {
        if let Some(group) = piece.strip_prefix('{') {
            let group = group.split('}').next().unwrap_or_default();
            let names = group.split(',').map(|n| n.trim().split("::").next().unwrap_or_default().to_owned());
            found.extend(names.filter(|n| !n.is_empty()));
        } else {
            found.push(piece.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    found
}

fn may_import(from: &str, to: &str) -> bool {
    if from == to || from == "lib" {
        return true;
    }
    let (Some(a), Some(b)) = (layer(from), layer(to)) else { return false };
    !NEVER.contains(&(from, to)) && (b < a || SIBLINGS_MAY.contains(&(from, to)))
}

/// The line where a file's tests begin; `None` if the whole file is shipped.
fn tests_begin(path: &Path, text: &str) -> Option<usize> {
    let stem = path.file_stem().unwrap().to_str().unwrap();
    let is_test = stem == "tests" || stem.ends_with("_tests") || stem == "fixture";
    if is_test || path.components().any(|c| c.as_os_str() == "tests") {
        return Some(0);
    }
    let lines: Vec<&str> = text.lines().collect();
    lines.windows(2).position(|w| w[0] == "#[cfg(test)]" && w[1].starts_with("mod ") && w[1].ends_with('{'))
}

#[test]
fn imports_go_down_only() {
    let mut wrong = Vec::new();
    for path in sources() {
        let from = part(&path);
        let text = fs::read_to_string(&path).unwrap();
        let tests = tests_begin(&path, &text).unwrap_or(usize::MAX);
        for (number, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for to in imports(line) {
                let looks_up = to == "oracle" && number >= tests;
                if layer(&to).is_some() && !may_import(&from, &to) && !looks_up {
                    wrong.push(format!("{}:{}: {from} imports {to}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_import_check_can_fail() {
    assert!(!may_import("tree", "watch") && !may_import("types", "jute") && !may_import("sim", "runtime"));
    assert!(!may_import("tree", "oracle") && !may_import("runtime", "oracle") && may_import("sim", "oracle"));
    let inline = "use a;\n#[cfg(test)]\nmod tests {\n}\n";
    assert_eq!(["a.rs", "a_tests.rs"].map(|p| tests_begin(Path::new(p), inline)), [Some(1), Some(0)]);
    assert_eq!(tests_begin(Path::new("a.rs"), "#[cfg(test)]\nmod tests;\nuse a;\n"), None);
    assert!(may_import("peer", "tree") && may_import("runtime", "shard"));
    assert_eq!(imports("use crate::{tree::Tree, watch};"), ["tree", "watch"]);
    assert_eq!(imports("    crate::types::Zxid"), ["types"]);
}

#[test]
fn every_part_is_in_the_layer_list() {
    for path in sources() {
        let part = part(&path);
        assert!(part == "lib" || layer(&part).is_some(), "{} belongs to no layer", path.display());
    }
}

#[test]
fn files_and_functions_stay_small() {
    let mut wrong = Vec::new();
    for path in sources_in(&["src", "tests", "bench", "tools"]) {
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        if lines.len() > FILE_LINES {
            wrong.push(format!("{}: {} lines", path.display(), lines.len()));
        }
        for (start, len) in functions(&lines) {
            if len > FUNCTION_LINES {
                wrong.push(format!("{}:{}: a function of {len} lines", path.display(), start + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// First line and length of each function, recognised by rustfmt's indentation.
fn functions(lines: &[&str]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let words: Vec<&str> = line.split_whitespace().take(5).collect();
        if !words.contains(&"fn") || line.trim_start().starts_with("//") {
            continue;
        }
        // A declaration in a trait has no body, and some bodies are on the line of the head.
        let head = lines[i..].iter().find(|l| l.ends_with('{') || l.ends_with(';') || l.ends_with('}'));
        if head.is_some_and(|l| !l.ends_with('{')) {
            continue;
        }
        let close = format!("{}}}", " ".repeat(indent));
        if let Some(end) = lines[i..].iter().position(|l| *l == close) {
            found.push((i, end + 1));
        }
    }
    found
}

#[test]
fn functions_are_told_from_declarations() {
    let source = "trait A {\n    fn a(&self);\n    fn b(\n        &self,\n    ) -> u8;\n    fn c(&self) {\n    }\n}\nfn d() {\n    x();\n}\n";
    let lines: Vec<&str> = source.lines().collect();
    assert_eq!(functions(&lines), [(5, 2), (8, 3)]);
}

/// Line numbers (from 0) of log calls that a client can cause and that lack `target: CLIENT_LOG`.
fn unmarked_log_lines(source: &str) -> Vec<usize> {
    let shipped = source.split("#[cfg(test)]").next().unwrap_or_default();
    let lines: Vec<&str> = shipped.lines().collect();
    let is_call = |line: &str| ["error!(", "warn!(", "info!(", "debug!("].iter().any(|call| line.contains(call));
    // rustfmt may put the target on the next line.
    let is_marked = |at: usize| lines[at..].iter().take(2).any(|l| l.contains("target: CLIENT_LOG"));
    (0..lines.len()).filter(|at| is_call(lines[*at]) && !is_marked(*at)).collect()
}

#[test]
fn what_a_client_can_make_a_shard_log_is_marked_so() {
    let mut wrong = Vec::new();
    for path in sources().into_iter().filter(|p| part(p) == "shard") {
        let lines = unmarked_log_lines(&fs::read_to_string(&path).unwrap());
        wrong.extend(lines.iter().map(|at| format!("{}:{}: no target: CLIENT_LOG", path.display(), at + 1)));
    }
    assert!(wrong.is_empty(), "a client could fill the log:\n{}", wrong.join("\n"));
    assert_eq!(unmarked_log_lines("tracing::warn!(\n target: CLIENT_LOG, x);\ntracing::info!(y);\n"), [2]);
}

#[test]
fn threads_are_started_where_a_refusal_is_an_error() {
    // The standard library's and tokio's own ways panic when no thread can be had, and a panic ends the server.
    let banned = ["thread::spawn(", "thread::Builder", "spawn_blocking(", "thread::scope("];
    let mut wrong = Vec::new();
    for path in
        sources().into_iter().filter(|p| ["runtime", "cli"].contains(&part(p).as_str()) && !p.ends_with("threads.rs"))
    {
        let text = fs::read_to_string(&path).unwrap();
        let tests = tests_begin(&path, &text).unwrap_or(usize::MAX);
        for (number, line) in text.lines().enumerate().take(tests) {
            if banned.iter().any(|b| line.contains(b)) {
                wrong.push(format!("{}:{}: {}: use runtime::threads", path.display(), number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Parts where order is everything, and how many assertions each must have for 1,000 lines that are shipped.
const ASSERTIONS: [(&str, usize); 4] = [("peer", 30), ("shard", 30), ("txnlog", 30), ("zab", 30)];

/// Lines with an assertion among those that are shipped, and all that are.
fn assertions(path: &Path, text: &str) -> (usize, usize) {
    let shipped: Vec<&str> = text.lines().take(tests_begin(path, text).unwrap_or(usize::MAX)).map(str::trim).collect();
    let kinds = ["assert!(", "assert_eq!(", "assert_ne!("];
    // `debug_` may stand before each.
    let is_one = |line: &&&str| !line.starts_with("//") && kinds.iter().any(|kind| line.contains(kind));
    (shipped.iter().filter(is_one).count(), shipped.len())
}

#[test]
fn where_order_matters_it_is_asserted() {
    for (name, floor) in ASSERTIONS {
        let (mut count, mut lines) = (0, 0);
        for path in sources().into_iter().filter(|p| part(p) == name) {
            let (asserts, of) = assertions(&path, &fs::read_to_string(&path).unwrap());
            (count, lines) = (count + asserts, lines + of);
        }
        let least = (lines * floor).div_ceil(1000);
        assert!(count >= least, "src/{name} has {count} assertions in {lines} lines: {least} are wanted");
    }
    let text =
        "assert!(a, \"b\");\n// assert!(c);\n  debug_assert_eq!(d, e);\n#[cfg(test)]\nmod tests {\n assert!(f);\n";
    assert_eq!(assertions(Path::new("a.rs"), text), (2, 3));
    assert_eq!(assertions(Path::new("a_tests.rs"), text), (0, 0));
}

#[test]
fn only_runtime_and_config_touch_the_world() {
    let banned = ["std::fs", "std::net::Tcp", "std::thread", "Instant::now", "SystemTime::now", "glommio::"];
    let free = ["runtime", "config", "cli", "main"];
    let mut wrong = Vec::new();
    for path in sources().into_iter().filter(|p| !free.contains(&part(p).as_str())) {
        let text = fs::read_to_string(&path).unwrap();
        let shipped = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in shipped.lines().enumerate() {
            if !line.trim_start().starts_with("//") && banned.iter().any(|b| line.contains(b)) {
                wrong.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The names in backticks on a page: a test (`file::name`), a text that a file must contain (`file "text"`), or a script, which
/// must contain a command.
fn named(page: &str) -> Vec<(&str, Result<&str, &str>)> {
    let pieces = page.split('`').skip(1).step_by(2);
    let rows = pieces.filter_map(|piece| match piece.split_once("::") {
        Some((file, test)) if file.ends_with(".rs") => Some((file, Ok(test))),
        _ if piece.starts_with("tests/scripts/") && piece.ends_with(".txt") && !piece.contains('…') => {
            Some((piece, Err("\n> ")))
        }
        _ => {
            let (file, text) = piece.split_once(".rs \"")?;
            Some((&piece[..file.len() + 3], Err(text.strip_suffix('"')?)))
        }
    });
    rows.collect()
}

/// Whether `source` has a test with this name.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let heads = [format!("fn {name}("), format!("async fn {name}(")];
    let is_head = |line: &&str| heads.iter().any(|h| line.starts_with(h.as_str()));
    let above = |at: usize| lines[..at].iter().rev().take_while(|l| l.starts_with("#[") || l.starts_with("//"));
    let marks = |at: usize| above(at).any(|l| *l == "#[test]");
    lines.iter().enumerate().any(|(at, line)| is_head(line) && marks(at))
}

/// The names on `page` that do not exist.
fn named_in_vain(page: &str, at_least: usize) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join(page)).unwrap();
    let named = named(&text);
    assert!(named.len() >= at_least, "{page}: only {} names were found", named.len());
    let is_there = |(file, what): &(&str, Result<&str, &str>)| {
        let source = fs::read_to_string(root.join(file)).unwrap_or_default();
        match what {
            Ok(test) => has_test(&source, test),
            Err(text) => source.contains(text),
        }
    };
    named.iter().filter(|row| !is_there(row)).map(|(file, what)| format!("{page}: {file}: {what:?}")).collect()
}

#[test]
fn every_test_that_our_tables_name_exists() {
    let mut wrong = named_in_vain("tests/RELIABILITY.md", 100);
    wrong.extend(named_in_vain("src/ORDERING.md", 15));
    assert!(wrong.is_empty(), "these are not there:\n{}", wrong.join("\n"));
}

/// The rule of a table's row, and the scripts that the row names.
fn scripts_of(row: &str) -> Option<(&str, Vec<&str>)> {
    let rule = row.strip_prefix("| ")?.split(" |").next()?;
    let is_rule = rule.len() == 2 && rule.starts_with(['W', 'S']) && rule.ends_with(|c: char| c.is_ascii_digit());
    let named = row.split('`').skip(1).step_by(2).filter(|n| n.starts_with("tests/scripts/"));
    is_rule.then(|| (rule, named.collect()))
}

#[test]
fn every_ordering_rule_has_a_script() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("src/ORDERING.md")).unwrap();
    let rules: Vec<_> = page.lines().filter_map(scripts_of).collect();
    assert_eq!(rules.len(), 13, "W1 to W5 and S1 to S8: {rules:?}");
    for (rule, scripts) in rules {
        let of_rule = format!("tests/scripts/{}-", rule.to_lowercase());
        assert!(scripts.iter().any(|s| s.starts_with(&of_rule)), "{rule} has no script of its own: {scripts:?}");
        for script in scripts {
            assert!(root.join(script).is_file(), "{script} is not there");
        }
    }
    assert_eq!(
        scripts_of("| W1 | x | `a` | `tests/scripts/w1-a.txt`, `b` |"),
        Some(("W1", vec!["tests/scripts/w1-a.txt"]))
    );
    assert_eq!(scripts_of("| rule | x |"), None);
}

#[test]
fn the_check_of_the_reliability_table_can_fail() {
    let page = "`a.rs::b` and `c.rs \"said {x}\"`, `not this` | `x::y`, `tests/scripts/s.txt`";
    let script = ("tests/scripts/s.txt", Err("\n> "));
    assert_eq!(named(page), [("a.rs", Ok("b")), ("c.rs", Err("said {x}")), script]);
    let source = "#[test]\nfn one() {\n}\n\nfn two() {}\n";
    assert!(has_test(source, "one") && !has_test(source, "two") && !has_test(source, "on"));
}
