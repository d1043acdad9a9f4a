//! Durations as Go programs write them: `1h30m`, `-1.5h`, `300ms`.

/// Seconds of a duration; `None` if it is none, or longer than 292 years, which is as far as Go counts.
pub fn seconds(text: &str) -> Option<f64> {
    const LONGEST: f64 = 9_223_372_036.0;
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0.0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let amount: f64 = rest[..number].parse().ok()?;
        rest = &rest[number..];
        let unit = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        total += amount
            * match &rest[..unit] {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3_600.0,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    (total <= LONGEST).then_some(sign * total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_writes() {
        assert_eq!(seconds("24h"), Some(86_400.0));
        assert_eq!(seconds("1h30m"), Some(5_400.0));
        assert_eq!(seconds("876000h"), Some(3_153_600_000.0));
        assert_eq!(seconds("1.5s"), Some(1.5));
        assert_eq!(seconds("-2m"), Some(-120.0));
        assert_eq!(seconds("0"), Some(0.0));
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "", "-", "24", "h", "1d", "1h2", ".s", "1..5s", "forever", "9999999h", "1 h",
        ] {
            assert_eq!(seconds(text), None, "{text:?}");
        }
    }
}
