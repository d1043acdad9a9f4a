//! How long to wait for a database that is away.

use std::time::Duration;

/// Pauses between attempts, doubling.
#[derive(Debug)]
pub struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(Duration::from_millis(100))
    }
}

impl Pause {
    /// No pause is longer.
    pub const LONGEST: Duration = Duration::from_secs(10);

    /// The next one.
    pub fn next(&mut self) -> Duration {
        let next = self.0;
        self.0 = (next * 2).min(Self::LONGEST);
        next
    }
}
