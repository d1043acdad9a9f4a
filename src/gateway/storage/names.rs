//! What buckets and objects may be called, and which types and sizes a bucket may ask for.

use serde::Deserialize;

use super::error::{Error, Result};

/// Longer keys would not fit into an index entry, nor into S3.
const LONGEST_KEY: usize = 1024;

/// Refuses what Supabase refuses, and keys with a segment `.` or `..`: URLs cannot express them, so such an object
/// could never be asked for again.
///
/// # Errors
/// [`Error::InvalidKey`]
pub fn check_key(key: &str) -> Result<()> {
    let valid = (1..=LONGEST_KEY).contains(&key.len())
        && key.bytes().all(|byte| byte == b'/' || allowed(byte))
        && !key.split('/').any(|segment| matches!(segment, "." | ".."));
    if valid {
        Ok(())
    } else {
        Err(Error::InvalidKey(key.to_owned()))
    }
}

/// Refuses what Supabase refuses.
///
/// # Errors
/// [`Error::InvalidBucketName`]
pub fn check_bucket_name(name: &str) -> Result<()> {
    let valid = (1..=100).contains(&name.len()) && name.bytes().all(allowed) && name.trim() == name;
    if valid { Ok(()) } else { Err(Error::InvalidBucketName) }
}

fn allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_!.*'() &$=@;:+,?-".contains(&byte)
}

/// Refuses a list of types that no content type could match.
///
/// # Errors
/// [`Error::InvalidMimeType`]
pub fn check_mime_rules(rules: &[String]) -> Result<()> {
    let valid = |rule: &String| {
        rule.len() <= 1000
            && rule.split_once('/').is_some_and(|(kind, subtype)| {
                !kind.is_empty()
                    && !subtype.is_empty()
                    && rule.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
            })
    };
    match rules.iter().find(|rule| !valid(rule)) {
        None => Ok(()),
        Some(rule) => Err(Error::InvalidMimeType(rule.clone())),
    }
}

/// Whether a bucket with these rules takes this content type. Parameters belong to the subtype, as in Supabase.
pub fn takes_type(rules: &[String], content_type: &str) -> bool {
    let (kind, subtype) = content_type.split_once('/').unwrap_or((content_type, ""));
    rules.iter().any(|rule| {
        let (rule_kind, rule_subtype) = rule.split_once('/').unwrap_or((rule, ""));
        let matches = |rule: &str, given: &str| rule == "*" || rule.eq_ignore_ascii_case(given);
        matches(rule_kind, kind) && matches(rule_subtype, subtype)
    })
}

/// A bucket's limit as clients give it: bytes, or text such as `20MB`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Size {
    /// Bytes.
    Bytes(i64),
    /// A number with a decimal unit.
    Text(String),
}

impl Size {
    /// The size in bytes.
    ///
    /// # Errors
    /// When the text is no size.
    pub fn bytes(&self) -> Result<i64> {
        const HINT: &str = "Invalid file size format, hint: use 20GB / 20MB / 30KB / 3B";
        let bytes = match self {
            Self::Bytes(bytes) => Some(*bytes),
            Self::Text(text) => parse_size(text),
        };
        bytes.filter(|bytes| *bytes >= 0).ok_or(Error::invalid(HINT))
    }
}

fn parse_size(text: &str) -> Option<i64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "gb" => 1e9,
        "mb" => 1e6,
        "kb" => 1e3,
        "b" | "" => 1.0,
        _ => return None,
    };
    let bytes = number.parse::<f64>().ok()? * factor;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a fraction of a byte does not matter; `as` saturates"
    )]
    Some(bytes as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_ascii_without_dot_segments() {
        for key in ["a", "folder/a b.png", "a/.hidden", "x!*'()&$=@;:+,?-_", "...", "a..b"] {
            assert!(check_key(key).is_ok(), "{key}");
        }
        for key in [
            "", "é.txt", "a#b", "a%b", "a[b]", "../a", "a/./b", "a/..", "a\\b", "a\nb",
        ] {
            assert!(check_key(key).is_err(), "{key}");
        }
        assert!(check_key(&"a".repeat(1025)).is_err());
    }

    #[test]
    fn bucket_names_have_no_slash_and_no_outer_blanks() {
        assert!(check_bucket_name("chat-attachments").is_ok());
        for name in ["", "a/b", " a", "a ", "ü"] {
            assert!(check_bucket_name(name).is_err(), "{name}");
        }
        assert!(check_bucket_name(&"a".repeat(101)).is_err());
    }

    #[test]
    fn types_match_by_kind_subtype_and_star() {
        let rules = |rules: &[&str]| rules.iter().map(|rule| (*rule).to_owned()).collect::<Vec<_>>();
        assert!(takes_type(&rules(&["image/*"]), "image/png"));
        assert!(takes_type(&rules(&["image/png", "text/plain"]), "text/plain"));
        assert!(takes_type(&rules(&["*/*"]), "video/mp4"));
        assert!(!takes_type(&rules(&["image/png"]), "image/jpeg"));
        assert!(!takes_type(&rules(&["text/plain"]), "text/plain;charset=UTF-8"));
        assert!(!takes_type(&rules(&["image/*"]), "application/x-image/png"));
        assert!(check_mime_rules(&rules(&["image/*", "text/plain;charset=utf-8"])).is_ok());
        assert!(check_mime_rules(&rules(&["image"])).is_err());
    }

    #[test]
    fn sizes_are_decimal() {
        let bytes = |text: &str| Size::Text(text.into()).bytes().ok();
        assert_eq!(bytes("20mb"), Some(20_000_000));
        assert_eq!(bytes("1.5 KB"), Some(1_500));
        assert_eq!(bytes("3B"), Some(3));
        assert_eq!(bytes("20 mib"), None);
        assert_eq!(bytes("-1"), None);
        assert!(Size::Bytes(-1).bytes().is_err());
    }
}
