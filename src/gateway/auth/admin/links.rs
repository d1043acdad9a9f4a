//! `POST /admin/generate_link`: a link to be sent by whoever holds the service key, since this server sends no mail.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, header},
};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::gateway::auth::{
    AUDIENCE, Auth, address,
    audit::{self, Action},
    bearer::Admin,
    error::{Error, Result},
    one_time::{Code, Purpose},
    password,
    request::{self, Body, Object, Origin, Query, non_empty},
    user::{self, Change, NewUser, User},
};

#[derive(Deserialize)]
pub struct Request {
    #[serde(default)]
    r#type: String,
    #[serde(default, deserialize_with = "non_empty")]
    email: Option<String>,
    #[serde(default, deserialize_with = "non_empty")]
    password: Option<String>,
    data: Option<Object>,
    #[serde(default, deserialize_with = "non_empty")]
    redirect_to: Option<String>,
}

#[derive(Deserialize)]
pub struct Options {
    #[serde(default, deserialize_with = "non_empty")]
    redirect_to: Option<String>,
}

/// A user and the way in.
#[derive(Serialize)]
pub struct Link {
    #[serde(flatten)]
    user: User,
    action_link: String,
    email_otp: String,
    hashed_token: String,
    verification_type: &'static str,
    redirect_to: String,
}

/// Makes a link for an address, and a user for a new one.
pub async fn generate(
    _: Admin,
    State(auth): State<Auth>,
    origin: Origin,
    headers: HeaderMap,
    Query(options): Query<Options>,
    Body(request): Body<Request>,
) -> Result<Json<Link>> {
    let purpose = Purpose::named(&request.r#type).ok_or_else(|| {
        Error::validation("Invalid email action link type requested: signup, invite, magiclink, recovery are there")
    })?;
    let email = request
        .email
        .as_deref()
        .ok_or_else(|| Error::validation("An email address is required"))?;
    let email = address::email(email)?;
    let audience = request::audience(&headers).unwrap_or(AUDIENCE);
    let existing = user::by_email(&auth.pool, &email, audience)
        .await?
        .map(|(user, _)| user);
    let purpose = match (purpose, &existing) {
        // who is not there yet signs up by the link
        (Purpose::Magiclink, None) => Purpose::Signup,
        (Purpose::Recovery, None) => return Err(Error::UserNotFound),
        (Purpose::Signup | Purpose::Invite, Some(user)) if user.email_confirmed_at.is_some() => {
            return Err(Error::EmailExists);
        }
        (purpose, _) => purpose,
    };
    let password_hash = match request.password {
        Some(password) if existing.is_none() => {
            password::check(&password, auth.settings.min_password_length)?;
            Some(auth.passwords.hash(password).await?)
        }
        None if existing.is_none() && request.r#type == "signup" => {
            return Err(Error::validation("Signup requires a valid password"));
        }
        _ => None,
    };
    let failed = || Error::database("Database error saving new user");
    let mut transaction = auth.pool.begin().await.map_err(failed())?;
    let id = match existing {
        Some(user) => {
            if matches!(purpose, Purpose::Signup | Purpose::Invite) && request.data.is_some() {
                let change = Change {
                    user_metadata: request.data,
                    ..Change::default()
                };
                change.apply(&mut transaction, user.id).await?;
            }
            user.id
        }
        None => {
            let mut new = NewUser::of(audience);
            new.email = Some(email.clone());
            new.password_hash = password_hash;
            new.user_metadata = request.data.unwrap_or_default();
            let id = new.id;
            new.create(&mut transaction).await?;
            id
        }
    };
    let code = Code::of(&email);
    code.issue(&mut transaction, id, purpose).await?;
    let (user, _) = user::by_id(&mut *transaction, id).await?.ok_or(Error::UserNotFound)?;
    audit::record(&mut transaction, Action::Invited(&user), None, &origin).await?;
    transaction.commit().await.map_err(failed())?;

    let wanted = options.redirect_to.or(request.redirect_to);
    let referer = headers.get(header::REFERER).and_then(|value| value.to_str().ok());
    let redirect_to = auth.destinations.choose(wanted.as_deref().into_iter().chain(referer));
    let mut action_link = Url::parse(&format!("{}/verify", auth.issuer)).map_err(Error::unexpected)?;
    action_link.query_pairs_mut().extend_pairs([
        ("token", code.hash.as_str()),
        ("type", purpose.as_str()),
        ("redirect_to", redirect_to.as_str()),
    ]);
    Ok(Json(Link {
        user,
        action_link: action_link.into(),
        email_otp: code.digits,
        hashed_token: code.hash,
        verification_type: purpose.as_str(),
        redirect_to: redirect_to.into(),
    }))
}
