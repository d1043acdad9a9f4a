//! What an operator may decide: how much one client may ask for.

use std::time::Duration;

use clap::builder::RangedU64ValueParser;

/// How the service behaves. Where Supabase counts a whole project, this counts one socket or one address: a client
/// that does too much pays for it alone, and all may come back at once after a restart.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Realtime")]
pub struct Settings {
    /// This gateway's own name among those that use the same Postgres server; without one the host's name and the
    /// public address make it. Of several of one name the later ones take others.
    #[arg(skip)]
    pub node: Option<String>,
    /// How long a client that lost its connection may be away without missing a change
    #[arg(
        long,
        env = "SWITCHBOARD_RESUME_WINDOW",
        value_name = "SECONDS",
        default_value = "120",
        value_parser = seconds::<3_600>
    )]
    pub resume_window: Duration,
    /// Most sockets at one time
    #[arg(
        long = "realtime-sockets",
        env = "SWITCHBOARD_REALTIME_SOCKETS",
        value_name = "NUMBER",
        default_value_t = 10_000,
        value_parser = RangedU64ValueParser::<usize>::new().range(1..)
    )]
    pub max_sockets: usize,
    /// Most sockets of one address; behind a proxy elsewhere all clients have the proxy's [default: no limit]
    #[arg(
        long = "realtime-sockets-per-address",
        env = "SWITCHBOARD_REALTIME_SOCKETS_PER_ADDRESS",
        value_name = "NUMBER",
        value_parser = RangedU64ValueParser::<usize>::new().range(1..)
    )]
    pub max_sockets_per_address: Option<usize>,
    /// Most channels of a socket
    #[arg(
        long = "realtime-channels",
        env = "SWITCHBOARD_REALTIME_CHANNELS",
        value_name = "NUMBER",
        default_value_t = 100,
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000)
    )]
    pub max_channels: usize,
    /// Joins a second of a socket, on average over ten
    #[arg(
        long = "realtime-joins-per-second",
        env = "SWITCHBOARD_REALTIME_JOINS_PER_SECOND",
        value_name = "NUMBER",
        default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub joins_per_second: u32,
    /// Messages a second from a socket, on average over ten
    #[arg(
        long = "realtime-messages-per-second",
        env = "SWITCHBOARD_REALTIME_MESSAGES_PER_SECOND",
        value_name = "NUMBER",
        default_value_t = 500,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub messages_per_second: u32,
    /// Messages of presence a second from a socket, on average over ten
    #[arg(
        long = "realtime-presence-per-second",
        env = "SWITCHBOARD_REALTIME_PRESENCE_PER_SECOND",
        value_name = "NUMBER",
        default_value_t = 50,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub presence_per_second: u32,
    /// How often a channel may say in 30 seconds that it is present, or is not
    #[arg(
        long = "realtime-presence-calls",
        env = "SWITCHBOARD_REALTIME_PRESENCE_CALLS",
        value_name = "NUMBER",
        default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub presence_calls: u32,
    /// Broadcasts a second over HTTP from an address, on average over ten
    #[arg(
        long = "realtime-posts-per-second",
        env = "SWITCHBOARD_REALTIME_POSTS_PER_SECOND",
        value_name = "NUMBER",
        default_value_t = 2_500,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub posts_per_second: u32,
    /// The largest payload of a broadcast, or of what is said of a presence, in bytes
    #[arg(
        long = "realtime-payload-limit",
        env = "SWITCHBOARD_REALTIME_PAYLOAD_LIMIT",
        value_name = "BYTES",
        default_value_t = 3_000_000,
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=super::MAX_FRAME as u64)
    )]
    pub max_payload_bytes: usize,
    /// A socket that says nothing for so long is closed; clients say something every 25 seconds
    #[arg(
        long = "realtime-idle-timeout",
        env = "SWITCHBOARD_REALTIME_IDLE_TIMEOUT",
        value_name = "SECONDS",
        default_value = "60",
        value_parser = seconds::<86_400>
    )]
    pub idle_timeout: Duration,
}

fn seconds<const MOST: u64>(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if (1..=MOST).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("a number of seconds from 1 to {MOST}")),
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            node: None,
            resume_window: Duration::from_secs(120),
            max_sockets: 10_000,
            max_sockets_per_address: None,
            max_channels: 100,
            joins_per_second: 100,
            messages_per_second: 500,
            presence_per_second: 50,
            presence_calls: 100,
            posts_per_second: 2_500,
            max_payload_bytes: 3_000_000,
            idle_timeout: Duration::from_secs(60),
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
        let settings = given(&["--realtime-channels", "5", "--realtime-idle-timeout", "30"]).unwrap();
        assert_eq!((settings.max_channels, settings.idle_timeout.as_secs()), (5, 30));
        for bad in [
            ["--realtime-sockets", "0"],
            ["--realtime-idle-timeout", "0"],
            ["--realtime-payload-limit", "5000001"],
        ] {
            assert!(given(&bad).is_err(), "{bad:?}");
        }
    }
}
