//! Media types: what a client accepts and what it sends.

use std::fmt;

/// A media type that means something here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Media {
    /// Anything.
    Any,
    /// `application/json`, an array of rows or a function's value.
    Json,
    /// `application/vnd.pgrst.array+json`.
    Array {
        /// `nulls=stripped`: members that are null are left out.
        strip_nulls: bool,
    },
    /// `application/vnd.pgrst.object+json`, exactly one row.
    Object {
        /// `nulls=stripped`: members that are null are left out.
        strip_nulls: bool,
    },
    /// `text/csv`.
    Csv,
    /// `application/geo+json`.
    GeoJson,
    /// `application/openapi+json`.
    OpenApi,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// `application/vnd.pgrst.plan`.
    Plan(Plan),
    /// Another one, in lower case, without parameters.
    Other(String),
}

/// How to explain a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The answer whose making is explained.
    pub of: Box<Media>,
    /// As JSON instead of text.
    pub json: bool,
    /// Options for `explain`, of [`PLAN_OPTIONS`].
    pub options: Vec<&'static str>,
}

/// What `explain` can be asked for.
const PLAN_OPTIONS: [&str; 5] = ["analyze", "verbose", "settings", "buffers", "wal"];

impl fmt::Display for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Any => "*/*",
            Self::Json => "application/json",
            Self::Array { strip_nulls: false } => "application/vnd.pgrst.array+json",
            Self::Array { strip_nulls: true } => "application/vnd.pgrst.array+json;nulls=stripped",
            Self::Object { strip_nulls: false } => "application/vnd.pgrst.object+json",
            Self::Object { strip_nulls: true } => "application/vnd.pgrst.object+json;nulls=stripped",
            Self::Csv => "text/csv",
            Self::GeoJson => "application/geo+json",
            Self::OpenApi => "application/openapi+json",
            Self::Form => "application/x-www-form-urlencoded",
            Self::Plan(plan) => {
                let format = if plan.json { "json" } else { "text" };
                write!(f, "application/vnd.pgrst.plan+{format}; for=\"{}\"", plan.of)?;
                return match plan.options.is_empty() {
                    true => Ok(()),
                    false => write!(f, "; options={}", plan.options.join("|")),
                };
            }
            Self::Other(name) => name,
        };
        f.write_str(name)
    }
}

impl Media {
    /// As a `Content-Type`.
    pub fn content_type(&self) -> String {
        let text = match self {
            Self::Any | Self::Form => false,
            Self::Other(name) => matches!(name.as_str(), "text/plain" | "text/xml"),
            _ => true,
        };
        let charset = if text { "; charset=utf-8" } else { "" };
        match self {
            Self::Array { strip_nulls: false } => Self::Json.content_type(),
            _ => format!("{self}{charset}"),
        }
    }

    /// Reads one media type with its parameters.
    pub fn parse(text: &str) -> Self {
        let mut parts = split(text, ';').into_iter().map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let parameters: Vec<(String, &str)> = parts
            .filter_map(|part| part.split_once('='))
            .map(|(key, value)| (key.trim().to_ascii_lowercase(), value.trim().trim_matches('"')))
            .collect();
        let parameter = |key: &str| parameters.iter().find(|(name, _)| name == key).map(|(_, value)| *value);
        let strip_nulls = parameter("nulls") == Some("stripped");
        match name.as_str() {
            "*/*" => Self::Any,
            "application/json" => Self::Json,
            "application/vnd.pgrst.array" | "application/vnd.pgrst.array+json" => Self::Array { strip_nulls },
            "application/vnd.pgrst.object" | "application/vnd.pgrst.object+json" => Self::Object { strip_nulls },
            "text/csv" => Self::Csv,
            "application/geo+json" => Self::GeoJson,
            "application/openapi+json" => Self::OpenApi,
            "application/x-www-form-urlencoded" => Self::Form,
            "application/vnd.pgrst.plan" | "application/vnd.pgrst.plan+text" | "application/vnd.pgrst.plan+json" => {
                let of = parameter("for").map_or(Self::Json, Self::parse);
                let options = parameter("options").unwrap_or_default();
                let options = options
                    .split('|')
                    .filter_map(|option| PLAN_OPTIONS.into_iter().find(|known| *known == option.trim()))
                    .collect();
                // A plan of a plan is the plan of what that one is for.
                let of = match of {
                    Self::Plan(plan) => plan.of,
                    of => Box::new(of),
                };
                Self::Plan(Plan {
                    of,
                    json: name.ends_with("json"),
                    options,
                })
            }
            _ => Self::Other(name),
        }
    }
}

/// The types of an `Accept` header, the most wanted first.
pub fn accepted(header: Option<&str>) -> Vec<Media> {
    let mut entries: Vec<(f32, usize, Media)> = split(header.unwrap_or("*/*"), ',')
        .into_iter()
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .map(|entry| {
            let quality = split(entry, ';')
                .into_iter()
                .filter_map(|part| part.trim().strip_prefix("q="))
                .find_map(|quality| quality.trim().parse().ok())
                .unwrap_or(1.0);
            let name = entry.split(';').next().unwrap_or_default().trim();
            let stars = name.matches('*').count();
            (quality, stars, Media::parse(entry))
        })
        .filter(|(quality, ..)| *quality > 0.0)
        .collect();
    // Stable, so that among equals the order of the header counts.
    entries.sort_by(|(a, a_stars, _), (b, b_stars, _)| b.total_cmp(a).then(a_stars.cmp(b_stars)));
    if entries.is_empty() {
        return vec![Media::Any];
    }
    entries.into_iter().map(|(.., media)| media).collect()
}

/// Splits at a character outside quotes.
fn split(text: &str, separator: char) -> Vec<&str> {
    let mut quoted = false;
    text.split(|character| {
        quoted ^= character == '"';
        character == separator && !quoted
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_quality_and_the_least_stars_come_first() {
        let wanted = accepted(Some("*/*, text/csv;q=0.5, application/json, image/png;q=0"));
        assert_eq!(wanted, [Media::Json, Media::Any, Media::Csv]);
        assert_eq!(accepted(None), [Media::Any]);
    }

    #[test]
    fn a_plan_survives_what_clients_send() {
        let text =
            "APPLICATION/vnd.pgrst.plan+json; for=\"application/vnd.pgrst.object+json; x=1\"; options=analyze|odd;";
        let wanted = accepted(Some(text));
        let Media::Plan(plan) = &wanted[0] else {
            panic!("{wanted:?}")
        };
        assert_eq!(*plan.of, Media::Object { strip_nulls: false });
        assert!(plan.json && plan.options == ["analyze"]);
        let Media::Plan(plan) = Media::parse("application/vnd.pgrst.plan; options=;") else {
            panic!()
        };
        assert!(!plan.json && plan.options.is_empty());
    }
}
