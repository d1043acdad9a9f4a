//! `/admin/users`.

use axum::{
    Json,
    extract::{FromRequestParts, Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts},
    response::{IntoResponse, Response},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::duration;
use crate::gateway::auth::{
    AUDIENCE, Auth, address,
    audit::{self, Action},
    bearer::Admin,
    error::{Error, Result},
    password,
    request::{self, Body, Object, OptionalBody, Origin, Query, non_empty},
    session::{self, Ending},
    user::{self, Change, Factor, NewUser, Page, User},
};

/// Users on one page, at most: more are refused rather than left out silently.
const MAX_PER_PAGE: i64 = 10_000;

#[derive(Deserialize)]
pub struct Listing {
    // supabase-js sends empty texts for what its caller left out
    #[serde(default)]
    page: String,
    #[serde(default)]
    per_page: String,
    #[serde(default)]
    sort: String,
    #[serde(default)]
    filter: String,
}

/// Lists users, one page of them.
pub async fn list(
    _: Admin,
    State(auth): State<Auth>,
    headers: HeaderMap,
    Query(listing): Query<Listing>,
) -> Result<Response> {
    let page = positive(&listing.page, 1, i64::from(i32::MAX))?;
    let per_page = positive(&listing.per_page, 50, MAX_PER_PAGE)?;
    let ascending = match listing.sort.trim().to_ascii_lowercase().as_str() {
        "" | "created_at" | "created_at desc" => false,
        "created_at asc" => true,
        _ => {
            return Err(Error::validation(
                "Bad Sort Parameters: bad field for sort, or direction not asc or desc",
            ));
        }
    };
    let audience = request::audience(&headers).unwrap_or(AUDIENCE);
    let wanted = Page {
        audience,
        filter: &listing.filter,
        ascending,
        limit: per_page,
        offset: (page - 1) * per_page,
    };
    let (users, total) = wanted.read(&auth.pool).await?;
    let last = (total + per_page - 1) / per_page;
    let link = |to: i64, relation: &str| {
        // `page` comes first: supabase-js reads what stands after the first `=`
        let mut query = format!("page={to}&per_page={per_page}");
        for (name, value) in [("sort", &listing.sort), ("filter", &listing.filter)] {
            if !value.is_empty() {
                query.push_str(&format!("&{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
            }
        }
        format!("<{}/admin/users?{query}>; rel=\"{relation}\"", auth.issuer)
    };
    let mut links = Vec::new();
    if page < last {
        links.push(link(page + 1, "next"));
    }
    links.push(link(last, "last"));
    let links = HeaderValue::try_from(links.join(", ")).map_err(Error::unexpected)?;
    let headers = [
        (HeaderName::from_static("x-total-count"), HeaderValue::from(total)),
        (header::LINK, links),
    ];
    Ok((headers, Json(json!({ "users": users, "aud": audience }))).into_response())
}

fn positive(text: &str, default: i64, max: i64) -> Result<i64> {
    match text.parse::<i64>() {
        _ if text.is_empty() => Ok(default),
        Ok(0) => Ok(default),
        Ok(number) if (1..=max).contains(&number) => Ok(number),
        _ => Err(Error::validation(format!(
            "Bad Pagination Parameters: {text:?} is no number from 1 to {max}"
        ))),
    }
}

/// Shows a user.
pub async fn show(_: Admin, Named(user): Named) -> Json<User> {
    Json(user)
}

/// Lists a user's second factors.
pub async fn factors(_: Admin, Named(user): Named) -> Json<Vec<Factor>> {
    Json(user.factors.unwrap_or_default())
}

#[derive(Deserialize)]
pub struct Request {
    #[serde(default, deserialize_with = "non_empty")]
    id: Option<String>,
    #[serde(default, deserialize_with = "non_empty")]
    aud: Option<String>,
    #[serde(default, deserialize_with = "non_empty")]
    role: Option<String>,
    #[serde(default, deserialize_with = "non_empty")]
    email: Option<String>,
    #[serde(default, deserialize_with = "non_empty")]
    phone: Option<String>,
    password: Option<String>,
    #[serde(default, deserialize_with = "non_empty")]
    password_hash: Option<String>,
    email_confirm: Option<bool>,
    phone_confirm: Option<bool>,
    user_metadata: Option<Object>,
    app_metadata: Option<Object>,
    #[serde(default, deserialize_with = "non_empty")]
    ban_duration: Option<String>,
}

impl Request {
    /// Seconds of the ban asked for; 0 lifts one.
    fn ban(&self) -> Result<Option<f64>> {
        let Some(text) = &self.ban_duration else {
            return Ok(None);
        };
        if text == "none" {
            return Ok(Some(0.0));
        }
        let seconds = duration::seconds(text)
            .ok_or_else(|| Error::validation("invalid format for ban duration: expected a duration such as 24h"))?;
        Ok(Some(seconds))
    }

    /// The hash to keep, of the password or as it was brought along.
    async fn hash(&self, auth: &Auth) -> Result<Option<String>> {
        match (
            self.password.as_deref().filter(|text| !text.is_empty()),
            &self.password_hash,
        ) {
            (Some(_), Some(_)) => Err(Error::validation(
                "Only a password or a password hash should be provided",
            )),
            (None, Some(hash)) if password::is_hash(hash) => Ok(Some(hash.clone())),
            (None, Some(_)) => Err(Error::validation("Unsupported password hash: bcrypt is supported")),
            (Some(password), None) => {
                password::check(password, auth.settings.min_password_length)?;
                Ok(Some(auth.passwords.hash(password.to_owned()).await?))
            }
            (None, None) => Ok(None),
        }
    }
}

/// Creates a user.
pub async fn create(
    _: Admin,
    State(auth): State<Auth>,
    origin: Origin,
    headers: HeaderMap,
    Body(request): Body<Request>,
) -> Result<Json<User>> {
    if request.email.is_none() && request.phone.is_none() {
        return Err(Error::validation(
            "Cannot create a user without either an email or phone",
        ));
    }
    let audience = request
        .aud
        .as_deref()
        .or(request::audience(&headers))
        .unwrap_or(AUDIENCE);
    let mut new = NewUser::of(audience);
    if let Some(id) = &request.id {
        let id = id.parse().ok().filter(|id: &Uuid| !id.is_nil());
        new.id = id.ok_or_else(|| Error::validation("ID must conform to the uuid v4 format"))?;
    }
    new.email = request.email.as_deref().map(address::email).transpose()?;
    new.phone = request.phone.as_deref().map(address::phone).transpose()?;
    if let Some(email) = &new.email
        && user::by_email(&auth.pool, email, audience).await?.is_some()
    {
        return Err(Error::EmailExists);
    }
    new.ban = request.ban()?.filter(|seconds| *seconds > 0.0);
    // Without a password there is none to guess, not even a random one.
    new.password_hash = request.hash(&auth).await?;
    new.email_confirmed = request.email_confirm == Some(true) && new.email.is_some();
    new.phone_confirmed = request.phone_confirm == Some(true) && new.phone.is_some();
    if let Some(role) = request.role {
        new.role = role;
    }
    new.app_metadata = request.app_metadata.unwrap_or_default();
    new.user_metadata = request.user_metadata.unwrap_or_default();
    if new.email_confirmed {
        new.user_metadata.insert("email_verified".to_owned(), Value::Bool(true));
    }
    let failed = || Error::database("Database error creating new user");
    let id = new.id;
    let mut transaction = auth.pool.begin().await.map_err(failed())?;
    new.create(&mut transaction).await?;
    let (user, _) = user::by_id(&mut *transaction, id).await?.ok_or(Error::UserNotFound)?;
    audit::record(&mut transaction, Action::Created(&user), None, &origin).await?;
    transaction.commit().await.map_err(failed())?;
    Ok(Json(user))
}

/// Changes a user. A new password ends his sessions.
pub async fn update(
    _: Admin,
    State(auth): State<Auth>,
    Named(user): Named,
    origin: Origin,
    Body(request): Body<Request>,
) -> Result<Json<User>> {
    let email = request.email.as_deref().map(address::email).transpose()?;
    if let Some(email) = &email
        && user::by_email(&auth.pool, email, &user.aud)
            .await?
            .is_some_and(|(other, _)| other.id != user.id)
    {
        return Err(Error::EmailExists);
    }
    let phone = request.phone.as_deref().map(address::phone).transpose()?;
    if request.password.as_deref() == Some("") {
        password::check("", auth.settings.min_password_length)?;
    }
    let ban = request.ban()?;
    let password_hash = request.hash(&auth).await?;
    let new_password = password_hash.is_some();
    let change = Change {
        role: request.role,
        email: email.filter(|email| *email != user.email),
        phone: phone.filter(|phone| *phone != user.phone),
        password_hash,
        confirm_email: request.email_confirm == Some(true),
        confirm_phone: request.phone_confirm == Some(true),
        app_metadata: request.app_metadata,
        user_metadata: request.user_metadata,
        ban,
    };
    let failed = || Error::database("Error updating user");
    let mut transaction = auth.pool.begin().await.map_err(failed())?;
    if !change.apply(&mut transaction, user.id).await? {
        return Err(Error::UserNotFound);
    }
    if new_password {
        session::end(&mut transaction, user.id, Ending::All).await?;
    }
    let (user, _) = user::by_id(&mut *transaction, user.id)
        .await?
        .ok_or(Error::UserNotFound)?;
    audit::record(&mut transaction, Action::ModifiedByAdmin(&user), None, &origin).await?;
    transaction.commit().await.map_err(failed())?;
    Ok(Json(user))
}

#[derive(Default, Deserialize)]
pub struct Deletion {
    #[serde(default)]
    should_soft_delete: bool,
}

/// Deletes a user: the row, or what can be recognised in it.
pub async fn delete(
    _: Admin,
    State(auth): State<Auth>,
    Named(user): Named,
    origin: Origin,
    OptionalBody(deletion): OptionalBody<Deletion>,
) -> Result<Json<Value>> {
    let statement = if deletion.unwrap_or_default().should_soft_delete {
        include_str!("../../../../sql/gateway/auth_soft_delete.sql")
    } else {
        "delete from users where id = $1"
    };
    let failed = || Error::database("Database error deleting user");
    let mut transaction = auth.pool.begin().await.map_err(failed())?;
    audit::record(&mut transaction, Action::Deleted(&user), None, &origin).await?;
    sqlx::query(statement)
        .bind(user.id)
        .execute(&mut *transaction)
        .await
        .map_err(failed())?;
    transaction.commit().await.map_err(failed())?;
    Ok(Json(json!({})))
}

/// The user whose id is in the path.
pub struct Named(User);

impl FromRequestParts<Auth> for Named {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, auth: &Auth) -> Result<Self> {
        let no_id = || Error::NoUuid("user_id");
        let Path(id) = Path::<String>::from_request_parts(parts, auth)
            .await
            .map_err(|_| no_id())?;
        let id = id.parse().map_err(|_| no_id())?;
        let (user, _) = user::by_id(&auth.pool, id).await?.ok_or(Error::UserNotFound)?;
        Ok(Self(user))
    }
}
