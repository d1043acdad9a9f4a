//! `Prefer`: what a client would like.

use axum::http::HeaderMap;

use super::super::error::{Error, Result};

/// The preferences of a request; the first of each kind counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefer {
    /// What happens to rows that are there already.
    pub resolution: Option<Resolution>,
    /// What a key missing in one of several objects means.
    pub missing: Option<Missing>,
    /// What a write gives back.
    pub returning: Option<Returning>,
    /// How to count.
    pub count: Option<Count>,
    /// How the transaction ends.
    pub end: Option<End>,
    /// Whether unknown preferences are errors.
    pub handling: Option<Handling>,
    /// The time zone of times in the answer.
    pub timezone: Option<String>,
    /// How many rows may be affected.
    pub max_affected: Option<i64>,
    /// What is no preference of ours.
    unknown: Vec<String>,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the words of the protocol")]
        pub enum $name { $($variant),+ }

        impl $name {
            /// As in the header.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            fn parse(entry: &str) -> Option<Self> {
                match entry { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

words!(
    /// What happens to rows that are there already.
    Resolution { Merge = "resolution=merge-duplicates", Ignore = "resolution=ignore-duplicates" }
);
words!(
    /// What a key missing in one of several objects means.
    Missing { Default = "missing=default", Null = "missing=null" }
);
words!(
    /// What a write gives back.
    Returning { Minimal = "return=minimal", Headers = "return=headers-only", Rows = "return=representation" }
);
words!(
    /// How to count.
    Count { Exact = "count=exact", Planned = "count=planned", Estimated = "count=estimated" }
);
words!(
    /// How the transaction ends.
    End { Commit = "tx=commit", Rollback = "tx=rollback" }
);
words!(
    /// Whether unknown preferences are errors.
    Handling { Strict = "handling=strict", Lenient = "handling=lenient" }
);

impl Prefer {
    /// Reads every `Prefer` header.
    pub fn parse(headers: &HeaderMap) -> Self {
        let mut prefer = Self::default();
        let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
        for entry in values.flat_map(|value| value.split(',')).map(str::trim) {
            if entry.is_empty() {
                continue;
            }
            if let Some(word) = Resolution::parse(entry) {
                prefer.resolution.get_or_insert(word);
            } else if let Some(word) = Missing::parse(entry) {
                prefer.missing.get_or_insert(word);
            } else if let Some(word) = Returning::parse(entry) {
                prefer.returning.get_or_insert(word);
            } else if let Some(word) = Count::parse(entry) {
                prefer.count.get_or_insert(word);
            } else if let Some(word) = End::parse(entry) {
                prefer.end.get_or_insert(word);
            } else if let Some(word) = Handling::parse(entry) {
                prefer.handling.get_or_insert(word);
            } else if let Some(zone) = entry.strip_prefix("timezone=") {
                prefer.timezone.get_or_insert_with(|| zone.to_owned());
            } else if let Some(rows) = entry.strip_prefix("max-affected=").and_then(|rows| rows.parse().ok()) {
                prefer.max_affected.get_or_insert(rows);
            } else {
                prefer.unknown.push(entry.to_owned());
            }
        }
        prefer
    }

    /// Whether the client wants to hear of preferences that are not met.
    pub fn is_strict(&self) -> bool {
        self.handling == Some(Handling::Strict)
    }

    /// The limit on affected rows that is in force.
    pub fn affected_limit(&self) -> Option<i64> {
        self.max_affected.filter(|_| self.is_strict())
    }

    /// Refuses unknown preferences, if the client wants that.
    ///
    /// # Errors
    /// PGRST122.
    pub fn check(&self) -> Result<()> {
        if self.is_strict() && !self.unknown.is_empty() {
            let details = format!("Invalid preferences: {}", self.unknown.join(", "));
            return Err(Error::bad("PGRST122", "Invalid preferences given with handling=strict")
                .details(details)
                .into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_kind_counts_over_all_headers() {
        let mut headers = HeaderMap::new();
        headers.append("prefer", "return=minimal , count=exact".parse().unwrap());
        headers.append(
            "prefer",
            "return=representation,handling=strict,odd=1,max-affected=3"
                .parse()
                .unwrap(),
        );
        let prefer = Prefer::parse(&headers);
        assert_eq!(prefer.returning, Some(Returning::Minimal));
        assert_eq!(prefer.count, Some(Count::Exact));
        assert_eq!(prefer.affected_limit(), Some(3));
        assert!(prefer.check().is_err());
    }
}
