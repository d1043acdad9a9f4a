//! How often something may happen.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How many seconds' worth may come at once.
const BURST: f64 = 10.0;
/// How long calls of presence are counted together.
const WINDOW: Duration = Duration::from_secs(30);
/// Addresses that are remembered before those that have nothing to make good are forgotten.
const MAX_ADDRESSES: usize = 10_000;

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
            left: per_second * BURST,
            since: Instant::now(),
        }
    }

    /// Counts one; false when it is one too many.
    pub fn take(&mut self) -> bool {
        self.take_at(1, Instant::now())
    }

    fn take_at(&mut self, count: u32, now: Instant) -> bool {
        let gained = now.duration_since(self.since).as_secs_f64() * self.per_second;
        self.left = (self.left + gained).min(self.per_second * BURST);
        self.since = now;
        let allowed = self.left >= f64::from(count);
        if allowed {
            self.left -= f64::from(count);
        }
        allowed
    }

    /// Whether nothing would be missed if it began anew.
    fn is_full_at(&self, now: Instant) -> bool {
        let gained = now.duration_since(self.since).as_secs_f64() * self.per_second;
        self.left + gained >= self.per_second * BURST
    }
}

/// So many in half a minute, which starts with the first.
#[derive(Debug, Default)]
pub struct Window {
    count: u32,
    began: Option<Instant>,
}

impl Window {
    /// Counts one; false when it is one too many.
    pub fn take(&mut self, most: u32) -> bool {
        self.take_at(most, Instant::now())
    }

    fn take_at(&mut self, most: u32, now: Instant) -> bool {
        if self.began.is_none_or(|began| now.duration_since(began) > WINDOW) {
            *self = Self {
                count: 0,
                began: Some(now),
            };
        }
        let allowed = self.count < most;
        if allowed {
            self.count += 1;
        }
        allowed
    }
}

/// A [`Limit`] for each address.
#[derive(Debug)]
pub struct PerAddress {
    per_second: u32,
    limits: Mutex<HashMap<IpAddr, Limit>>,
}

impl PerAddress {
    /// A limit nobody has taken from.
    pub fn new(per_second: u32) -> Self {
        Self {
            per_second,
            limits: Mutex::default(),
        }
    }

    /// Counts so many of an address; false when they are too many.
    pub fn take(&self, address: IpAddr, count: u32) -> bool {
        let now = Instant::now();
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        if limits.len() >= MAX_ADDRESSES && !limits.contains_key(&address) {
            limits.retain(|_, limit| !limit.is_full_at(now));
        }
        limits
            .entry(address)
            .or_insert_with(|| Limit::new(self.per_second))
            .take_at(count, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_taken_and_refills_with_time() {
        let mut limit = Limit::new(2);
        let start = limit.since;
        assert_eq!((0..30).filter(|_| limit.take_at(1, start)).count(), 20);
        let later = start + Duration::from_secs(1);
        assert_eq!((0..30).filter(|_| limit.take_at(1, later)).count(), 2);
        assert!(!limit.is_full_at(later));
        assert!(limit.is_full_at(later + Duration::from_secs(10)));
    }

    #[test]
    fn a_window_counts_anew_when_it_is_over() {
        let mut window = Window::default();
        let start = Instant::now();
        let taken = |window: &mut Window, at| (0..9).filter(|_| window.take_at(5, at)).count();
        assert_eq!(taken(&mut window, start), 5);
        assert_eq!(taken(&mut window, start + WINDOW), 0);
        assert_eq!(taken(&mut window, start + WINDOW + Duration::from_millis(1)), 5);
    }

    #[test]
    fn each_address_has_its_own() {
        let limits = PerAddress::new(1);
        let address = |last: u8| IpAddr::from([127, 0, 0, last]);
        assert!(limits.take(address(1), 10));
        assert!(!limits.take(address(1), 5));
        assert!(limits.take(address(2), 5));
    }
}
