//! Which rows: `limit` and `offset`, and the header `Range`.

use super::super::error::{Error, Result};

/// Rows from `first` to `last`, counted from 0, both included; no `last` means all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// The first row.
    pub first: i64,
    /// The last row; one before `first` for none.
    pub last: Option<i64>,
}

/// `limit` and `offset` as a query string gives them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// How many rows.
    pub limit: Option<i64>,
    /// How many to skip.
    pub offset: Option<i64>,
}

impl Window {
    /// Whether the query string says anything.
    pub fn is_given(&self) -> bool {
        self.limit.is_some() || self.offset.is_some()
    }

    /// The root's rows.
    fn range(&self) -> Range {
        let first = self.offset.unwrap_or(0).max(0);
        let last = self.limit.map(|limit| first.saturating_add(limit).saturating_sub(1));
        Range { first, last }
    }
}

impl Range {
    /// The rows that query string and `Range` header ask for together.
    ///
    /// # Errors
    /// PGRST103 when they can only be none.
    pub fn requested(window: Window, header: Option<&str>) -> Result<Self> {
        let mut range = window.range();
        if let Some(header) = header.and_then(parse_header) {
            if header.last.is_some_and(|last| last < header.first) {
                let details =
                    "The lower boundary must be lower than or equal to the upper boundary in the Range header.";
                return Err(Error::range(details).into());
            }
            range = Self {
                first: range.first.max(header.first),
                last: [range.last, header.last].into_iter().flatten().min(),
            };
        }
        let nothing = range.last.is_some_and(|last| last < range.first);
        let zero_asked = window.limit == Some(0) && range.first == 0;
        if nothing && !zero_asked {
            return Err(Error::range("Limit should be greater than or equal to zero.").into());
        }
        Ok(range)
    }

    /// How many rows at most.
    pub fn limit(&self) -> Option<i64> {
        self.last
            .map(|last| last.saturating_sub(self.first).saturating_add(1).max(0))
    }

    /// The same rows, but no more than `max`.
    #[must_use]
    pub fn capped(self, max: Option<u32>) -> Self {
        let Some(max) = max.map(i64::from) else {
            return self;
        };
        let last = self.first.saturating_add(max).saturating_sub(1);
        Self {
            last: Some(self.last.map_or(last, |own| own.min(last))),
            ..self
        }
    }
}

/// `a-b` or `a-`; other forms say nothing.
fn parse_header(header: &str) -> Option<Range> {
    let (first, last) = header.trim().split_once('-')?;
    let first = first.parse().ok().filter(|first: &i64| *first >= 0)?;
    let last = match last {
        "" => None,
        last => Some(last.parse().ok()?),
    };
    Some(Range { first, last })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requested(limit: Option<i64>, offset: Option<i64>, header: Option<&str>) -> Option<(i64, Option<i64>)> {
        let range = Range::requested(Window { limit, offset }, header).ok()?;
        Some((range.first, range.limit()))
    }

    #[test]
    fn query_and_header_intersect() {
        assert_eq!(requested(Some(10), Some(5), None), Some((5, Some(10))));
        assert_eq!(requested(Some(10), None, Some("2-3")), Some((2, Some(2))));
        assert_eq!(requested(None, None, Some("7-")), Some((7, None)));
        assert_eq!(requested(None, None, Some("rows=1-2")), Some((0, None)));
        assert_eq!(requested(None, None, Some("3-1")), None);
    }

    #[test]
    fn nothing_is_an_error_unless_asked_for_plainly() {
        assert_eq!(requested(Some(0), None, None), Some((0, Some(0))));
        assert_eq!(requested(Some(0), Some(1), None), None);
        assert_eq!(requested(Some(-1), None, None), None);
        assert_eq!(requested(None, Some(-4), None), Some((0, None)));
        assert_eq!(requested(Some(i64::MAX), Some(1), None), Some((1, Some(i64::MAX - 1))));
        assert_eq!(requested(None, Some(i64::MAX), None), Some((i64::MAX, None)));
    }
}
