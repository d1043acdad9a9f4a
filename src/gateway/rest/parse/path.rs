//! Which resource a path names.

use std::borrow::Cow;

use axum::http::StatusCode;
use percent_encoding::percent_decode_str;

use super::super::error::{Error, Result};

/// A resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// The description of the API.
    Root,
    /// A table or view.
    Relation(String),
    /// A function.
    Function(String),
}

/// The resource of a path without the service's prefix.
///
/// # Errors
/// PGRST125.
pub fn parse(path: &str) -> Result<Resource> {
    let decode =
        |segment: &str| -> Cow<'_, str> { Cow::Owned(percent_decode_str(segment).decode_utf8_lossy().into_owned()) };
    let segments: Vec<_> = path.strip_prefix('/').unwrap_or(path).split('/').map(decode).collect();
    match segments.as_slice() {
        [root] if root.is_empty() => Ok(Resource::Root),
        [relation] => Ok(Resource::Relation(relation.to_string())),
        [rpc, function] if rpc == "rpc" && !function.is_empty() => Ok(Resource::Function(function.to_string())),
        _ => Err(Error::new(
            StatusCode::NOT_FOUND,
            "PGRST125",
            "Invalid path specified in request URL",
        )
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_segment_or_begin_with_rpc() {
        assert_eq!(parse("/").unwrap(), Resource::Root);
        assert_eq!(parse("/a%20b").unwrap(), Resource::Relation("a b".into()));
        assert_eq!(parse("/rpc").unwrap(), Resource::Relation("rpc".into()));
        assert_eq!(parse("/rpc/f").unwrap(), Resource::Function("f".into()));
        for bad in ["/a/", "/a/b", "/rpc/", "/rpc/a/b", "//"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
