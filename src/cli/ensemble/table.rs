//! The table of members.

/// One member as it is shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Row {
    pub(super) id: u16,
    /// `leader`, `follower`, `observer`, or why it has none of these roles.
    pub(super) role: String,
    /// The address for clients.
    pub(super) client: String,
    pub(super) pid: Option<i32>,
    /// Its configuration, with which it can be started and stopped alone.
    pub(super) config: String,
}

const HEADS: [&str; 5] = ["id", "role", "clients", "process", "configuration"];

/// The rows below their heads; every column as wide as its longest text.
pub(super) fn text(rows: &[Row]) -> String {
    let cells = |row: &Row| {
        let pid = row.pid.map_or("-".into(), |pid| pid.to_string());
        [row.id.to_string(), row.role.clone(), row.client.clone(), pid, row.config.clone()]
    };
    let lines: Vec<[String; 5]> = std::iter::once(HEADS.map(str::to_string)).chain(rows.iter().map(cells)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEADS.len()).map(width).collect();
    let joined = |line: &[String; 5]| {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    lines.iter().map(joined).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_need() {
        let row = |id, role: &str, port: u16, pid| Row {
            id,
            role: role.into(),
            client: format!("127.0.0.1:{port}"),
            pid,
            config: format!("/d/{id}/zoo.cfg"),
        };
        let rows = [
            row(1, "follower", 2181, Some(17)),
            row(2, "leader", 2182, Some(123_456)),
            row(10, "not running", 21810, None),
        ];
        let want = "\
id  role         clients          process  configuration
1   follower     127.0.0.1:2181   17       /d/1/zoo.cfg
2   leader       127.0.0.1:2182   123456   /d/2/zoo.cfg
10  not running  127.0.0.1:21810  -        /d/10/zoo.cfg";
        assert_eq!(text(&rows), want);
        assert_eq!(text(&[]), HEADS.join("  "));
    }
}
