//! How often something may happen.

use std::time::Instant;

/// So many a second on average, and a burst of ten seconds' worth.
#[derive(Debug)]
pub struct Limit {
    per_second: f64,
    left: f64,
    since: Instant,
}

impl Limit {
    /// A limit nothing has been taken from.
    pub fn new(per_second: u32) -> Self {
        let per_second = f64::from(per_second);
        Self {
            per_second,
            left: per_second * 10.0,
            since: Instant::now(),
        }
    }

    /// Counts one; false when it is one too many.
    pub fn take(&mut self) -> bool {
        self.take_at(Instant::now())
    }

    fn take_at(&mut self, now: Instant) -> bool {
        let gained = now.duration_since(self.since).as_secs_f64() * self.per_second;
        self.left = (self.left + gained).min(self.per_second * 10.0);
        self.since = now;
        let allowed = self.left >= 1.0;
        if allowed {
            self.left -= 1.0;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_is_taken_and_refills_with_time() {
        let mut limit = Limit::new(2);
        let start = limit.since;
        assert_eq!((0..30).filter(|_| limit.take_at(start)).count(), 20);
        assert_eq!(
            (0..30)
                .filter(|_| limit.take_at(start + Duration::from_secs(1)))
                .count(),
            2
        );
    }
}
