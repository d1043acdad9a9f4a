//! What an operator may decide about users and sessions.

use clap::builder::RangedU64ValueParser;
use url::Url;

/// How the service behaves. The defaults are those of `supabase start`, but for anonymous sign-ins.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Users and sessions")]
pub struct Settings {
    /// Whether people may sign up by themselves; otherwise only the service key creates users
    #[arg(
        long = "auth-signup",
        env = "SWITCHBOARD_AUTH_SIGNUP",
        value_name = "BOOLEAN",
        action = clap::ArgAction::Set,
        default_value_t = true
    )]
    pub signup: bool,
    /// Whether visitors may sign in without an address. On, unlike `supabase start`: most customers of a chat have no
    /// account, and their chats need an owner
    #[arg(
        long = "auth-anonymous",
        env = "SWITCHBOARD_AUTH_ANONYMOUS",
        value_name = "BOOLEAN",
        action = clap::ArgAction::Set,
        default_value_t = true
    )]
    pub anonymous: bool,
    /// How long an access token is valid
    #[arg(
        long = "auth-token-lifetime",
        env = "SWITCHBOARD_AUTH_TOKEN_LIFETIME",
        value_name = "SECONDS",
        default_value_t = 3_600,
        value_parser = clap::value_parser!(i64).range(30..=604_800)
    )]
    pub token_lifetime: i64,
    /// How long a spent refresh token may be shown again, by a second tab or after an answer that was lost
    #[arg(
        long = "auth-refresh-reuse",
        env = "SWITCHBOARD_AUTH_REFRESH_REUSE",
        value_name = "SECONDS",
        default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(0..=3_600)
    )]
    pub refresh_reuse: u32,
    /// How many characters a password has at least
    #[arg(
        long = "auth-min-password-length",
        env = "SWITCHBOARD_AUTH_MIN_PASSWORD_LENGTH",
        value_name = "NUMBER",
        default_value_t = 6,
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=72)
    )]
    pub min_password_length: usize,
    /// How long a one-time code or link is valid
    #[arg(
        long = "auth-code-lifetime",
        env = "SWITCHBOARD_AUTH_CODE_LIFETIME",
        value_name = "SECONDS",
        default_value_t = 3_600,
        value_parser = clap::value_parser!(u32).range(30..=86_400)
    )]
    pub code_lifetime: u32,
    /// The portal: where links lead that name no other place, or none that is allowed
    #[arg(
        long = "site-url",
        env = "SWITCHBOARD_SITE_URL",
        value_name = "URL",
        default_value = DEVELOPMENT_SITE
    )]
    pub site_url: Url,
    /// Where else links may lead; `*` stands for anything without `.` and `/`, `**` for anything. May be given several
    /// times
    #[arg(
        long = "redirect-url",
        env = "SWITCHBOARD_REDIRECT_URLS",
        value_name = "PATTERN",
        value_delimiter = ','
    )]
    pub redirect_urls: Vec<String>,
    /// Most connections to the database
    // an id of its own: `serve` has another service's beside it
    #[arg(
        id = "auth-connections",
        long = "auth-connections",
        env = "SWITCHBOARD_AUTH_CONNECTIONS",
        value_name = "NUMBER",
        default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..=1_000)
    )]
    pub connections: u32,
}

/// Where a portal under development is.
const DEVELOPMENT_SITE: &str = "http://127.0.0.1:3000";

impl Default for Settings {
    fn default() -> Self {
        Self {
            signup: true,
            anonymous: true,
            token_lifetime: 3_600,
            refresh_reuse: 10,
            min_password_length: 6,
            code_lifetime: 3_600,
            site_url: Url::parse(DEVELOPMENT_SITE).expect("an address"),
            redirect_urls: Vec::new(),
            connections: 10,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        settings: Settings,
    }

    fn given(arguments: &[&str]) -> Result<Settings, clap::Error> {
        let arguments = ["serve"].iter().chain(arguments);
        <Command as clap::Parser>::try_parse_from(arguments).map(|command| command.settings)
    }

    #[test]
    fn nothing_given_is_the_default() {
        assert_eq!(given(&[]).unwrap(), Settings::default());
    }

    #[test]
    fn what_is_given_counts() {
        let settings = given(&[
            "--auth-anonymous",
            "false",
            "--redirect-url",
            "https://a.example/**,app://b",
        ])
        .unwrap();
        assert!(!settings.anonymous);
        assert_eq!(settings.redirect_urls, ["https://a.example/**", "app://b"]);
        assert!(given(&["--auth-token-lifetime", "0"]).is_err());
        assert!(given(&["--site-url", "shop"]).is_err());
    }
}
