//! From the database's answer to status and headers.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use serde_json::Value;

use super::{
    error::{Error, Result},
    parse::{
        prefer::{Prefer, Resolution, Returning},
        range::Range,
    },
    sql::answer::Part,
};
use crate::db::session::Row;

/// The version of PostgREST whose answers these are.
pub const LEVEL: &str = "16.2";

/// What a request did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    /// Read rows.
    Read,
    /// Inserted rows, or updated them on conflict.
    Insert {
        /// How many the payload could have inserted is unknown, so an upsert that merged is told by its updates.
        merged: bool,
    },
    /// Updated rows.
    Update,
    /// Deleted rows.
    Delete,
    /// Put one row.
    Put,
    /// Called a function.
    Call {
        /// Whether it gives nothing.
        void: bool,
    },
}

/// An answer under construction.
#[derive(Debug)]
pub struct Reply<'a> {
    /// What was done.
    pub did: Did,
    /// What the client would like.
    pub prefer: &'a Prefer,
    /// Which rows were asked for.
    pub range: Range,
    /// Whether there is to be no body.
    pub head: bool,
    /// The body's type.
    pub content_type: &'a str,
    /// The rows' own address.
    pub content_location: Option<String>,
    /// The address of a new row: path and the names of its key.
    pub location: Option<(&'a str, &'a [String])>,
    /// What `Preference-Applied` says.
    pub applied: &'a str,
    /// The schema, where clients have to be told.
    pub profile: Option<&'a str>,
    /// What the client should do otherwise.
    pub warning: Option<&'a str>,
}

impl Reply<'_> {
    /// The answer. `total` is how many rows there are without limits.
    ///
    /// # Errors
    /// PGRST103 when the rows asked for lie behind the last one; PGRST111, PGRST112 when SQL chose headers or a
    /// status that are none.
    pub fn build(self, row: &Row, total: Option<i64>) -> Result<Response> {
        let rows: i64 = part(row, Part::Rows).and_then(|rows| rows.parse().ok()).unwrap_or(0);
        let returns_rows = self.prefer.returning == Some(Returning::Rows);
        let (status, content_range) = match self.did {
            Did::Read | Did::Call { .. } => {
                let status = if matches!(self.did, Did::Call { void: true }) {
                    StatusCode::NO_CONTENT
                } else {
                    range_status(self.range.first, rows, total)?
                };
                (status, Some(content_range(self.range.first, rows, total)))
            }
            Did::Insert { merged } => {
                let updated: i64 = part(row, Part::Updated)
                    .and_then(|count| count.parse().ok())
                    .unwrap_or(0);
                let status = if merged && rows <= updated {
                    StatusCode::OK
                } else {
                    StatusCode::CREATED
                };
                (status, Some(content_range(1, 0, total)))
            }
            Did::Update => (write_status(returns_rows), Some(content_range(0, rows, total))),
            Did::Delete => (write_status(returns_rows), Some(content_range(1, 0, total))),
            Did::Put => {
                let updated = part(row, Part::Updated).is_some();
                let status = match (returns_rows, updated) {
                    (false, _) => StatusCode::NO_CONTENT,
                    (true, true) => StatusCode::OK,
                    (true, false) => StatusCode::CREATED,
                };
                (status, None)
            }
        };
        let is_write = !matches!(self.did, Did::Read | Did::Call { .. });
        let has_body = status != StatusCode::NO_CONTENT && (returns_rows || !is_write);

        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        if let Some(content_range) = content_range {
            put(headers, header::CONTENT_RANGE, &content_range);
        }
        if let Some((path, key)) = self.location
            && let Some(location) = part(row, Part::Key).and_then(|values| location(path, key, values))
        {
            put(headers, header::LOCATION, &location);
        }
        if has_body {
            put(headers, header::CONTENT_TYPE, self.content_type);
            if let Some(profile) = self.profile {
                put(headers, HeaderName::from_static("content-profile"), profile);
            }
        }
        if let Some(location) = &self.content_location {
            put(headers, header::CONTENT_LOCATION, location);
        }
        if !self.applied.is_empty() {
            put(headers, HeaderName::from_static("preference-applied"), self.applied);
        }
        if let Some(warning) = self.warning {
            put(headers, header::WARNING, warning);
        }
        put(headers, header::VARY, "Accept, Prefer, Range");
        *response.status_mut() = status;
        if has_body && !self.head {
            let body = row.bytes(Part::Body as usize).unwrap_or_default();
            *response.body_mut() = Body::from(body);
        }
        chosen_by_sql(row, &mut response)?;
        Ok(response)
    }
}

/// A part of the answer's row.
pub fn part(row: &Row, part: Part) -> Option<&str> {
    row.text(part as usize)
}

/// The warning that embeds should be meant by their aliases, where some are meant by their target's name: target and
/// alias.
pub fn deprecated(by_target: &[(&str, &str)]) -> Option<String> {
    if by_target.is_empty() {
        return None;
    }
    let changes: Vec<String> = by_target
        .iter()
        .map(|(target, alias)| format!("`{target}` to `{alias}`"))
        .collect();
    Some(format!(
        "299 PostgRESTv{LEVEL} \"Embedded resource was referenced by relation name even though it has an alias. This is \
         deprecated and will stop working in a future release. Update {} in query string filters, orders or limits.\"",
        changes.join(", ")
    ))
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
        headers.insert(name, value);
    }
}

fn write_status(returns_rows: bool) -> StatusCode {
    if returns_rows {
        StatusCode::OK
    } else {
        StatusCode::NO_CONTENT
    }
}

fn range_status(first: i64, rows: i64, total: Option<i64>) -> Result<StatusCode> {
    match total {
        Some(total) if first > total => {
            let details = format!("An offset of {first} was requested, but there are only {total} rows.");
            let range = content_range(first, 0, Some(total));
            Err(Error::range(details).header(header::CONTENT_RANGE, &range).into())
        }
        Some(total) if rows < total => Ok(StatusCode::PARTIAL_CONTENT),
        _ => Ok(StatusCode::OK),
    }
}

/// `first-last/total`, with stars for what is not known or not there.
fn content_range(first: i64, rows: i64, total: Option<i64>) -> String {
    let range = if rows > 0 && total != Some(0) {
        format!("{first}-{}", first + rows - 1)
    } else {
        "*".to_owned()
    };
    match total {
        Some(total) => format!("{range}/{total}"),
        None => format!("{range}/*"),
    }
}

fn location(path: &str, key: &[String], values: &str) -> Option<String> {
    let values: Vec<Option<String>> = serde_json::from_str(values).ok()?;
    let conditions: Vec<String> = key
        .iter()
        .zip(values)
        .map(|(column, value)| match value {
            Some(value) => format!("{}=eq.{}", encode(column), encode(&value)),
            None => format!("{}=is.null", encode(column)),
        })
        .collect();
    Some(format!("/{}?{}", encode(path), conditions.join("&")))
}

/// Percent-encodes all but letters, digits and `-_.~`.
pub fn encode(text: &str) -> String {
    const KEPT: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'_')
        .remove(b'.')
        .remove(b'~');
    percent_encoding::utf8_percent_encode(text, KEPT).to_string()
}

/// Lays over what `response.status` and `response.headers` say.
fn chosen_by_sql(row: &Row, response: &mut Response) -> Result<()> {
    if let Some(text) = part(row, Part::Headers) {
        let wrong = || {
            Error::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "PGRST111",
                "response.headers guc must be a JSON array composed of objects with a single key and a string value",
            )
        };
        let list: Vec<serde_json::Map<String, Value>> = serde_json::from_str(text).map_err(|_| wrong())?;
        let mut seen = Vec::new();
        for pair in list {
            let (1, Some((name, Value::String(value)))) = (pair.len(), pair.into_iter().next()) else {
                return Err(wrong().into());
            };
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
            let value = HeaderValue::from_str(&value).map_err(|_| wrong())?;
            // The first replaces ours, the next of that name join it.
            if seen.contains(&name) {
                response.headers_mut().append(&name, value);
            } else {
                response.headers_mut().insert(&name, value);
                seen.push(name);
            }
        }
    }
    if let Some(text) = part(row, Part::Status) {
        let digits: String = text.trim().chars().take_while(char::is_ascii_digit).collect();
        let status = digits
            .parse()
            .ok()
            .and_then(|status| StatusCode::from_u16(status).ok())
            .ok_or_else(|| {
                let message = "response.status guc must be a valid status code";
                Error::new(StatusCode::INTERNAL_SERVER_ERROR, "PGRST112", message)
            })?;
        *response.status_mut() = status;
    }
    Ok(())
}

/// What `Preference-Applied` says: the preferences that count for this kind of request, in PostgREST's order.
pub fn applied(prefer: &Prefer, did: Did, resolution: Option<Resolution>, allow_override: bool) -> String {
    let is_write = !matches!(did, Did::Read | Did::Call { .. });
    let changes = matches!(did, Did::Insert { .. } | Did::Update);
    let max_affected = prefer
        .affected_limit()
        .filter(|_| matches!(did, Did::Update | Did::Delete | Did::Call { .. }))
        .map(|rows| format!("max-affected={rows}"));
    let words = [
        resolution.map(|word| word.word().to_owned()),
        prefer.missing.filter(|_| changes).map(|word| word.word().to_owned()),
        prefer.returning.filter(|_| is_write).map(|word| word.word().to_owned()),
        prefer.count.map(|word| word.word().to_owned()),
        prefer.end.filter(|_| allow_override).map(|word| word.word().to_owned()),
        prefer.handling.map(|word| word.word().to_owned()),
        prefer.timezone.as_ref().map(|zone| format!("timezone={zone}")),
        max_affected,
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// A plan as an answer.
pub fn plan(rows: &[Row], content_type: &str) -> Response {
    let lines: Vec<Bytes> = rows.iter().filter_map(|row| row.bytes(0)).collect();
    let mut response = Response::new(Body::from(lines.join(&b'\n')));
    put(response.headers_mut(), header::CONTENT_TYPE, content_type);
    response
}

/// Gives the status line words of its own; HTTP/2 has none.
pub fn set_reason(response: &mut Response, reason: String) {
    if let Ok(reason) = hyper::ext::ReasonPhrase::try_from(reason.into_bytes()) {
        response.extensions_mut().insert(reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_tell_what_is_known() {
        assert_eq!(content_range(0, 3, None), "0-2/*");
        assert_eq!(content_range(5, 0, Some(5)), "*/5");
        assert_eq!(content_range(0, 0, Some(0)), "*/0");
        assert_eq!(range_status(0, 2, Some(3)).unwrap(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(range_status(5, 0, Some(5)).unwrap(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(range_status(9, 0, None).unwrap(), StatusCode::OK);
        let behind = range_status(6, 0, Some(5)).unwrap_err();
        assert_eq!(behind.headers[header::CONTENT_RANGE], "*/5");
    }

    #[test]
    fn a_location_names_the_whole_key() {
        let key = ["id".to_owned(), "k 2".to_owned()];
        assert_eq!(
            location("a b", &key, r#"["1", null]"#).unwrap(),
            "/a%20b?id=eq.1&k%202=is.null"
        );
    }
}
