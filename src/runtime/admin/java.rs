//! Text as Java prints it, because tools parse it: decimals, dates, addresses. Mirrors `Double.toString`, `Date.toString`,
//! `InetSocketAddress.toString`.

use std::ffi::CStr;
use std::net::{IpAddr, SocketAddr};

use crate::types::acl::host_address;

/// A decimal as `Double.toString` writes it: at least one digit after the point, `1.0E7` from ten million on.
pub(super) fn double(v: f64) -> String {
    if v.is_nan() {
        return "NaN".into();
    }
    if v.is_infinite() {
        return if v > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    let size = v.abs();
    if size == 0.0 || (1e-3..1e7).contains(&size) {
        return format!("{v:?}");
    }
    let text = format!("{v:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    if digits.contains('.') { format!("{digits}E{exponent}") } else { format!("{digits}.0E{exponent}") }
}

/// A value rounded half up to four decimal places, as ZooKeeper shows averages.
pub(super) fn rounded(v: f64) -> f64 {
    (v * 10_000.0).round() / 10_000.0
}

/// A time as `Date.toString` writes it, in the time zone of this host: `Sat Nov 21 00:00:11 UTC 2026`.
pub(super) fn date(wall_ms: i64) -> String {
    let seconds: libc::time_t = wall_ms.div_euclid(1000);
    // SAFETY: all zeroes is a valid `tm`, and `localtime_r` fills it; its zone name is static.
    let (tm, zone) = unsafe {
        let mut tm: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&seconds, &mut tm).is_null() {
            return format!("{seconds} s since 1970");
        }
        let zone =
            if tm.tm_zone.is_null() { "".into() } else { CStr::from_ptr(tm.tm_zone).to_string_lossy().into_owned() };
        (tm, zone)
    };
    const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    // Java calls a zone without a name UTC.
    let zone = if zone.is_empty() || zone == "GMT" && tm.tm_gmtoff == 0 { "UTC" } else { zone.as_str() };
    format!(
        "{} {} {:02} {:02}:{:02}:{:02} {zone} {}",
        DAYS[tm.tm_wday as usize % 7],
        MONTHS[tm.tm_mon as usize % 12],
        tm.tm_mday,
        tm.tm_hour,
        tm.tm_min,
        tm.tm_sec,
        i64::from(tm.tm_year) + 1900
    )
}

/// A time in the form of the build date: `2026-02-11 20:18 UTC`.
pub(super) fn build_date(wall_s: i64) -> String {
    let seconds: libc::time_t = wall_s;
    // SAFETY: as in `date`.
    let tm = unsafe {
        let mut tm: libc::tm = std::mem::zeroed();
        if libc::gmtime_r(&seconds, &mut tm).is_null() {
            return "1970-01-01 00:00 UTC".into();
        }
        tm
    };
    let year = i64::from(tm.tm_year) + 1900;
    format!("{year:04}-{:02}-{:02} {:02}:{:02} UTC", tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min)
}

/// `127.0.0.1:54321`, `[0:0:0:0:0:0:0:1]:54321`: Java does not shorten IPv6 addresses.
pub(super) fn socket_address(a: &SocketAddr) -> String {
    match a.ip().to_canonical() {
        IpAddr::V4(ip) => format!("{ip}:{}", a.port()),
        ip => format!("[{}]:{}", host_address(ip), a.port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles() {
        let cases = [
            (0.0, "0.0"),
            (380.0, "380.0"),
            (45.6667, "45.6667"),
            (1.2595, "1.2595"),
            (0.0001, "1.0E-4"),
            (0.0123, "0.0123"),
            (9_999_999.0, "9999999.0"),
            (1e7, "1.0E7"),
            (12_345_678.9, "1.23456789E7"),
            (f64::NAN, "NaN"),
        ];
        for (v, text) in cases {
            assert_eq!(double(v), text);
        }
        assert_eq!(rounded(137.0 / 3.0), 45.6667);
        assert_eq!(rounded(36.0 / 316.0), 0.1139);
    }

    #[test]
    fn dates() {
        let text = date(1_795_219_211_177);
        let words: Vec<&str> = text.split(' ').collect();
        assert_eq!(words.len(), 6, "{text}");
        assert_eq!((words[1], words[5]), ("Nov", "2026"), "{text}");
        assert_eq!(words[3].len(), 8, "{text}");
        assert_eq!(build_date(1_770_841_080), "2026-02-11 20:18 UTC");
    }

    #[test]
    fn addresses() {
        assert_eq!(socket_address(&"127.0.0.1:80".parse().unwrap()), "127.0.0.1:80");
        assert_eq!(socket_address(&"[::1]:80".parse().unwrap()), "[0:0:0:0:0:0:0:1]:80");
        assert_eq!(socket_address(&"[::ffff:10.0.0.1]:80".parse().unwrap()), "10.0.0.1:80");
    }
}
