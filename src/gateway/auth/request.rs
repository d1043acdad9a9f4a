//! What every route reads from a request in the same way: a JSON body, where it comes from, whom it is meant for.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
};

use axum::{
    body::Bytes,
    extract::{ConnectInfo, FromRequest, FromRequestParts, Request},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::error::Error;

/// A body no larger than this is read, in bytes.
pub const MAX_BODY: usize = 1 << 20;

/// A JSON object, as clients send it.
pub type Object = Map<String, Value>;

/// A request's JSON, whatever its content type says.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        let bytes = read(request, state).await?;
        parse(&bytes).map(Body)
    }
}

/// The same where the body may be missing.
#[derive(Debug)]
pub struct OptionalBody<T>(pub Option<T>);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for OptionalBody<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        let bytes = read(request, state).await?;
        let body = (!bytes.is_empty()).then(|| parse(&bytes)).transpose()?;
        Ok(Self(body))
    }
}

async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Error> {
    Bytes::from_request(request, state)
        .await
        .map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Error::TooLarge,
            _ => Error::BadJson("the body could not be read".into()),
        })
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::BadJson(error.to_string()))
}

/// A request's query.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        axum::extract::Query::try_from_uri(&parts.uri)
            .map(|axum::extract::Query(query)| Self(query))
            .map_err(|error| Error::validation(error.body_text()))
    }
}

/// Reads a text; an empty one counts as none.
pub fn non_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty()))
}

/// Where a request comes from, to be shown beside a session.
#[derive(Debug)]
pub struct Origin {
    /// The client's address as text: the first valid one of `X-Forwarded-For`, else the connection's. Only shown,
    /// never trusted.
    pub ip: Option<String>,
    /// What the client calls itself.
    pub user_agent: Option<String>,
}

impl<S: Sync> FromRequestParts<S> for Origin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let connection = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let forwarded = text(&parts.headers, "x-forwarded-for")
            .and_then(|list| list.split(',').find_map(|ip| ip.trim().parse::<IpAddr>().ok()));
        let ip = forwarded.or_else(|| connection.map(|ConnectInfo(address)| address.ip()));
        Ok(Self {
            ip: ip.map(|ip| ip.to_canonical().to_string()),
            user_agent: text(&parts.headers, header::USER_AGENT.as_str()).map(ToOwned::to_owned),
        })
    }
}

/// The audience that a request names, if any.
pub fn audience(headers: &HeaderMap) -> Option<&str> {
    text(headers, "x-jwt-aud").filter(|audience| !audience.is_empty())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
