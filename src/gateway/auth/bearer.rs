//! Who shows a token here: a signed-in user, or the holder of the service key.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use serde_json::Value;
use uuid::Uuid;

use super::{
    Auth,
    error::{Error, Result},
    request,
    user::{self, User},
};
use crate::gateway::{caller::Claims, keys::now};

/// The role whose tokens open the admin routes.
const ADMIN: &str = "service_role";

/// A user whose token is valid and whose session, if the token names one, has not been ended.
pub struct SignedIn {
    pub user: User,
    pub password_hash: Option<String>,
    /// None for a token that was signed elsewhere with our secret.
    pub session: Option<Uuid>,
    pub claims: Arc<Claims>,
}

impl FromRequestParts<Auth> for SignedIn {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, auth: &Auth) -> Result<Self> {
        let claims = verified(&parts.headers, auth)?;
        let subject = claims
            .subject()
            .filter(|subject| !subject.is_empty())
            .ok_or_else(|| Error::BadJwt("invalid claim: missing sub claim".into()))?;
        let id = subject.parse().map_err(|_| Error::BadSubject)?;
        let session = session_of(&claims)?;
        let found = match session {
            Some(session) => user::in_session(&auth.pool, id, session).await?,
            None => user::by_id(&auth.pool, id).await?,
        };
        let Some((user, password_hash)) = found else {
            // Nobody, or nobody with this session: which of them is worth a question only now.
            let known = session.is_some() && user::by_id(&auth.pool, id).await?.is_some();
            return Err(if known { Error::SessionGone } else { Error::UserGone });
        };
        if user.banned {
            return Err(Error::Banned(StatusCode::FORBIDDEN));
        }
        Ok(Self {
            user,
            password_hash,
            session,
            claims,
        })
    }
}

impl SignedIn {
    /// Whether the user may do what only the service key may.
    pub fn is_admin(&self) -> bool {
        self.user.role == ADMIN
    }

    /// Whether the session has seen a second factor.
    pub fn is_aal2(&self) -> bool {
        self.claims.get("aal").and_then(Value::as_str) == Some("aal2")
    }

    /// Checks that the token is for the audience that the request names.
    ///
    /// # Errors
    /// When it is for another one, or for none.
    pub fn check_audience(&self, headers: &HeaderMap) -> Result<()> {
        let own = match self.claims.get("aud") {
            Some(Value::Array(audiences)) => audiences.first().and_then(Value::as_str),
            audience => audience.and_then(Value::as_str),
        };
        match (own, request::audience(headers)) {
            (Some(own), Some(wanted)) if own == wanted => Ok(()),
            (Some(_), None) => Ok(()),
            _ => Err(Error::Audience),
        }
    }
}

/// Whoever holds a token of the service role.
#[derive(Debug)]
pub struct Admin;

impl FromRequestParts<Auth> for Admin {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, auth: &Auth) -> Result<Self> {
        let claims = verified(&parts.headers, auth)?;
        if claims.role() != Some(ADMIN) {
            return Err(Error::NotAdmin("User not allowed"));
        }
        // A person with this role: his access ends with the session.
        if let Some(session) = session_of(&claims)? {
            let alive: bool = sqlx::query_scalar(
                "select exists (select from sessions where id = $1 and (not_after is null or not_after > now()))",
            )
            .bind(session)
            .fetch_one(&auth.pool)
            .await
            .map_err(Error::database("Database error finding session"))?;
            if !alive {
                return Err(Error::SessionExpired(StatusCode::FORBIDDEN));
            }
        }
        Ok(Self)
    }
}

/// The claims of the request's token, if its signature and its times are right.
fn verified(headers: &HeaderMap, auth: &Auth) -> Result<Arc<Claims>> {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer") && !token.contains(' ') && !token.is_empty())
        .map(|(_, token)| token)
        .ok_or(Error::NoAuthorization)?;
    let refused = |why: String| Error::BadJwt(format!("invalid JWT: unable to parse or verify signature, {why}"));
    let claims = auth.keys.verify(token).map_err(|error| refused(error.to_string()))?;
    if claims.expired(0) {
        return Err(refused("token has invalid claims: token is expired".into()));
    }
    if claims
        .get("nbf")
        .and_then(Value::as_f64)
        .is_some_and(|start| start > now() as f64)
    {
        return Err(refused("token has invalid claims: token is not valid yet".into()));
    }
    Ok(claims)
}

fn session_of(claims: &Claims) -> Result<Option<Uuid>> {
    let session = claims.get("session_id").and_then(Value::as_str);
    let session = session.filter(|id| !id.is_empty() && *id != Uuid::nil().to_string());
    session
        .map(|id| {
            id.parse()
                .map_err(|_| Error::BadJwt("invalid claim: session_id claim must be a UUID".into()))
        })
        .transpose()
}
