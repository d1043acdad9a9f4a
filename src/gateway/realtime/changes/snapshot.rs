//! What a snapshot of Postgres includes.

/// Does the snapshot (`xmin:xmax:running,..` in 64 bits) see this 32-bit transaction as over?
pub fn finished(snapshot: &str, xid: u32) -> bool {
    let mut parts = snapshot.split(':');
    let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok());
    let (Some(xmin), Some(xmax)) = (number(), number()) else {
        return false;
    };
    // The full number is the one nearest to xmax with these low bits.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "the low 32 bits, as a distance"
    )]
    let distance = xid.wrapping_sub(xmax as u32) as i32;
    let xid = xmax.wrapping_add_signed(distance.into());
    let running = parts.next().unwrap_or_default();
    xid < xmin || xid < xmax && !running.split(',').any(|each| each.parse() == Ok(xid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_includes_what_is_over() {
        assert!(finished("100:105:100,103", 99));
        assert!(!finished("100:105:100,103", 100));
        assert!(finished("100:105:100,103", 101));
        assert!(!finished("100:105:100,103", 103));
        assert!(!finished("100:105:100,103", 105));
        assert!(!finished("100:105:100,103", 106));
        // Past the first wrap of 32 bits.
        let epoch = 1_u64 << 32;
        let snapshot = format!("{}:{}:", epoch + 2, epoch + 5);
        assert!(finished(&snapshot, 4));
        assert!(!finished(&snapshot, 5));
        assert!(finished(&snapshot, u32::MAX));
        assert!(!finished("", 1));
    }

    #[test]
    fn the_nearest_number_is_meant_around_a_wrap() {
        let epoch = 1_u64 << 32;
        // The transaction came just before the wrap, the snapshot just after it, and the other way round.
        let after = format!("{}:{}:{},{}", epoch - 2, epoch + 3, epoch - 1, epoch + 1);
        assert!(finished(&after, u32::MAX - 2));
        assert!(finished(&after, u32::MAX - 1));
        assert!(!finished(&after, u32::MAX));
        assert!(finished(&after, 0));
        assert!(!finished(&after, 1));
        assert!(!finished(&after, 3));
        let before = format!("{}:{}:", epoch - 2, epoch - 2);
        assert!(!finished(&before, u32::MAX));
        assert!(!finished(&before, 5));
        assert!(finished(&before, u32::MAX - 2));
        assert!(!finished("100:105", 105) && finished("100:105:", 104) && !finished("a:b:", 1));
    }
}
