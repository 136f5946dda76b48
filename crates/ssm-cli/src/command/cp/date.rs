//! Times as `touch -t` takes them.

const DAY: i64 = 24 * 60 * 60;

/// Seconds since 1970 as `YYYYMMDDhhmm.SS` in UTC. What four digits cannot say becomes the nearest that they can.
pub(super) fn touch(seconds: i64) -> String {
    // 1970 and 9999: touch takes no year below 1969 everywhere.
    let seconds = seconds.clamp(0, 253_402_300_799);
    let (year, month, day) = civil(seconds / DAY);
    let (hour, minute, second) = (seconds % DAY / 3600, seconds % 3600 / 60, seconds % 60);
    format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}.{second:02}")
}

/// The date of a day since 1970 (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_date() {
        // Of `date -u -d @N +%Y%m%d%H%M.%S`.
        assert_eq!(touch(0), "197001010000.00");
        assert_eq!(touch(951_782_399), "200002282359.59");
        assert_eq!(touch(951_782_400), "200002290000.00");
        assert_eq!(touch(1_000_000_000), "200109090146.40");
        assert_eq!(touch(1_735_689_599), "202412312359.59");
        assert_eq!(touch(-1), "197001010000.00");
        assert_eq!(touch(i64::MAX), "999912312359.59");
    }
}
