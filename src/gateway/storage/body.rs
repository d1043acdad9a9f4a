//! Bodies and query strings, refused in the contract's words.

use std::{
    future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Body, BodyDataStream, Bytes, HttpBody};
use futures_util::{Stream, StreamExt, TryStreamExt};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};

use super::error::{Error, Result};

/// No request of this API needs more JSON.
const LARGEST_JSON: usize = 1 << 20;

/// How long a refused body is still read.
const LINGER: Duration = Duration::from_secs(30);

/// A body whose rest is read and thrown away when nobody wants it any more. Were the connection closed instead, a
/// client busy sending would see that, and never the answer that says why.
struct Lingering(Option<BodyDataStream>);

/// Makes a body linger.
pub fn lingering(body: Body) -> Body {
    if body.is_end_stream() {
        return body;
    }
    Body::from_stream(Lingering(Some(body.into_data_stream())))
}

impl Stream for Lingering {
    type Item = std::result::Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(body) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let chunk = ready!(body.poll_next_unpin(context));
        if !matches!(chunk, Some(Ok(_))) {
            self.0 = None;
        }
        Poll::Ready(chunk)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        if let Some(rest) = self.0.take() {
            tokio::spawn(tokio::time::timeout(
                LINGER,
                rest.try_for_each(|_| future::ready(Ok(()))),
            ));
        }
    }
}

/// A JSON body; none at all counts as `{}`.
///
/// # Errors
/// When it is too large, not JSON, or lacks a field.
pub async fn json<T: DeserializeOwned>(body: Body) -> Result<T> {
    let bytes = axum::body::to_bytes(body, LARGEST_JSON)
        .await
        .map_err(|_| Error::BodyTooLarge)?;
    let bytes = if bytes.is_empty() { b"{}" } else { bytes.as_ref() };
    serde_json::from_slice(bytes).map_err(|error| Error::Validation(refusal("body", &error.to_string())))
}

/// The query string's fields.
///
/// # Errors
/// When a field is missing or wrong.
pub fn query<T: DeserializeOwned>(query: Option<&str>) -> Result<T> {
    axum::extract::Query::try_from_uri(
        &format!("/?{}", query.unwrap_or_default())
            .parse()
            .map_err(|_| Error::Validation("querystring is invalid".into()))?,
    )
    .map(|axum::extract::Query(fields)| fields)
    .map_err(|rejection| {
        use std::error::Error as _;
        let reason = rejection
            .source()
            .map_or_else(|| rejection.to_string(), ToString::to_string);
        Error::Validation(refusal("querystring", &reason))
    })
}

/// ``missing field `prefix` at line 1 column 2`` in the words clients know.
fn refusal(place: &str, reason: &str) -> String {
    match reason
        .split_once("missing field `")
        .and_then(|(_, rest)| rest.split_once('`'))
    {
        Some((field, _)) => format!("{place} must have required property '{field}'"),
        None => format!("{place} is invalid: {reason}"),
    }
}

/// A whole number, or one in a string: some client libraries write it so.
///
/// # Errors
/// When it is neither.
pub fn whole_number<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(i64),
        Text(String),
    }
    match Written::deserialize(deserializer)? {
        Written::Number(number) => Ok(number),
        Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

/// Tells a field that is null (`Some(None)`) from one that is absent (`None`).
///
/// # Errors
/// Those of the field's type.
pub fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Wanted {
        #[allow(dead_code, reason = "only its absence is looked at")]
        prefix: String,
    }

    #[tokio::test]
    async fn a_missing_field_is_named() {
        let error = json::<Wanted>(Body::empty()).await.unwrap_err();
        assert_eq!(error.to_string(), "body must have required property 'prefix'");
        let error = query::<Wanted>(None).unwrap_err();
        assert_eq!(error.to_string(), "querystring must have required property 'prefix'");
    }
}
