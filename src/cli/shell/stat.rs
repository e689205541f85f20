//! A stat as zkCli prints it. Mirrors `StatPrinter` and `java.util.Date.toString`.

use std::fmt::Write;

use crate::types::Stat;

/// The stat as eleven lines.
pub(crate) fn text(s: &Stat) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "cZxid = {:#x}\nctime = {}\nmZxid = {:#x}\nmtime = {}\npZxid = {:#x}\ncversion = {}\ndataVersion = {}\n\
         aclVersion = {}\nephemeralOwner = {:#x}\ndataLength = {}\nnumChildren = {}\n",
        s.czxid.0,
        date(s.ctime),
        s.mzxid.0,
        date(s.mtime),
        s.pzxid.0,
        s.cversion,
        s.version,
        s.aversion,
        s.ephemeral_owner,
        s.data_length,
        s.num_children
    );
    out
}

/// A date in the local time zone, such as `Fri Nov 20 23:11:02 UTC 2026`. `ms` counts from 1970.
pub(crate) fn date(ms: i64) -> String {
    const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let Some((tm, zone)) = local(ms.div_euclid(1000)) else {
        // The year does not fit into `tm`. A server may send any number.
        return format!("{ms} ms");
    };
    let name = |names: &[&'static str], i: i32| usize::try_from(i).ok().and_then(|i| names.get(i).copied());
    format!(
        "{} {} {:02} {:02}:{:02}:{:02} {zone} {}",
        name(&DAYS, tm.tm_wday).unwrap_or("?"),
        name(&MONTHS, tm.tm_mon).unwrap_or("?"),
        tm.tm_mday,
        tm.tm_hour,
        tm.tm_min,
        tm.tm_sec,
        i64::from(tm.tm_year) + 1900
    )
}

fn local(seconds: i64) -> Option<(libc::tm, String)> {
    let time: libc::time_t = seconds;
    // SAFETY: `tm` consists of plain numbers and a pointer, for all of which zero is a valid value. `localtime_r` fills
    // it or returns null, in which case it is not read. `tm_zone` points to the C library's text for the zone, which
    // lives as long as the process because nothing here changes TZ.
    unsafe {
        let mut tm: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&time, &mut tm).is_null() {
            return None;
        }
        let zone = if tm.tm_zone.is_null() {
            String::new()
        } else {
            std::ffi::CStr::from_ptr(tm.tm_zone).to_string_lossy().into_owned()
        };
        Some((tm, zone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Zxid;

    #[test]
    fn block() {
        let s = Stat {
            czxid: Zxid(0x1a),
            mzxid: Zxid(-1),
            ctime: 0,
            version: 3,
            cversion: -4,
            ephemeral_owner: 0x0100_0000_0000_0001,
            data_length: 5,
            ..Stat::default()
        };
        let t = text(&s);
        let lines: Vec<&str> = t.lines().collect();
        assert_eq!(lines.len(), 11);
        assert_eq!(lines[0], "cZxid = 0x1a");
        assert_eq!(lines[1], format!("ctime = {}", date(0)));
        assert_eq!(lines[2], "mZxid = 0xffffffffffffffff");
        assert_eq!(
            &lines[4..],
            [
                "pZxid = 0x0",
                "cversion = -4",
                "dataVersion = 3",
                "aclVersion = 0",
                "ephemeralOwner = 0x100000000000001",
                "dataLength = 5",
                "numChildren = 0"
            ]
        );
        assert!(t.ends_with("numChildren = 0\n"));
    }

    #[test]
    fn dates_have_javas_shape() {
        // Zone and hour depend on the machine; the form and the year do not.
        let d = date(1_795_216_262_000);
        let parts: Vec<&str> = d.split(' ').collect();
        assert_eq!((parts.len(), parts[1], parts[5]), (6, "Nov", "2026"), "{d}");
        assert_eq!((parts[0].len(), parts[2].len(), parts[3].len()), (3, 2, 8), "{d}");
        assert!(!date(i64::MAX).is_empty());
        if date(0).contains(" UTC ") {
            assert_eq!(date(0), "Thu Jan 01 00:00:00 UTC 1970");
            assert_eq!(date(-1), "Wed Dec 31 23:59:59 UTC 1969");
            assert_eq!(d, "Fri Nov 20 23:11:02 UTC 2026");
        }
    }
}
