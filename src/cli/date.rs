//! Dates in UTC, without a time zone database.

const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A point in time as calendar fields.
struct Civil {
    year: i64,
    month: usize,
    day: i64,
    weekday: usize,
    hour: i64,
    minute: i64,
    second: i64,
    millisecond: i64,
}

/// The calendar fields of any number of milliseconds since 1970, negative ones too.
fn civil(ms: i64) -> Civil {
    let (days, of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // Years are counted from 1 March, in eras of 400 years, so that a leap day is the last day of its year.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let month = (march_month + 2) % 12;
    Civil {
        year: year_of_era + era * 400 + i64::from(month < 2),
        month: month as usize,
        day: of_year - (153 * march_month + 2) / 5 + 1,
        weekday: days.rem_euclid(7) as usize,
        hour: of_day / 3_600_000,
        minute: of_day / 60_000 % 60,
        second: of_day / 1000 % 60,
        millisecond: of_day % 1000,
    }
}

/// `2026-11-20T23:25:24.123Z`.
pub(super) fn iso(ms: i64) -> String {
    let c = civil(ms);
    let (year, month, day) = (c.year, c.month + 1, c.day);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z", c.hour, c.minute, c.second, c.millisecond)
}

/// `Fri Nov 20 23:25:24 UTC 2026`, as Java's `Date.toString` writes it.
pub(super) fn java(ms: i64) -> String {
    let c = civil(ms);
    let (weekday, month) = (WEEKDAYS[c.weekday], MONTHS[c.month]);
    format!("{weekday} {month} {:02} {:02}:{:02}:{:02} UTC {:04}", c.day, c.hour, c.minute, c.second, c.year)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        for (ms, text, as_java) in [
            (0, "1970-01-01T00:00:00.000Z", "Thu Jan 01 00:00:00 UTC 1970"),
            (-1, "1969-12-31T23:59:59.999Z", "Wed Dec 31 23:59:59 UTC 1969"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z", "Tue Feb 29 00:00:00 UTC 2000"),
            (1_795_217_124_123, "2026-11-20T23:25:24.123Z", "Fri Nov 20 23:25:24 UTC 2026"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z", "Sun Feb 28 23:59:59 UTC 2100"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z", "Mon Mar 01 00:00:00 UTC 2100"),
        ] {
            assert_eq!(iso(ms), text);
            assert_eq!(java(ms), as_java);
        }
    }

    #[test]
    fn any_number_is_a_date() {
        for ms in [i64::MIN, i64::MAX] {
            assert!(iso(ms).ends_with('Z') && java(ms).contains("UTC"));
        }
    }
}
