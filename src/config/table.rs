//! The description of a configuration key, and the macro that generates the key list and the
//! structure `Config` from the same declarations.

/// The declaration of one key of the configuration.
#[derive(Debug)]
pub struct Key {
    /// The key's full name, `section.name`.
    pub name: &'static str,
    /// The default value, written as TOML.
    pub default: &'static str,
    /// The permitted values.
    pub range: Range,
    /// When a changed value takes effect.
    pub reload: Reload,
    /// Whether the value may hold a password, which is then never shown or logged.
    pub secret: bool,
    /// The meaning of the value in whole sentences. Each line begins with a space, as after the `#`
    /// of a comment in `config/expressd.toml`.
    pub description: &'static str,
}

impl Key {
    /// Splits the name into (section, name in the section).
    pub fn parts(&self) -> (&'static str, &'static str) {
        self.name.split_once('.').expect("keys are section.name")
    }

    /// Description of the permitted values, for messages.
    pub fn permitted(&self) -> String {
        self.range.to_string()
    }
}

/// When a changed value of a key takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reload {
    /// At once, while a session runs.
    Hot,
    /// With the next session, which builds its stages and opens its sources again.
    Session,
    /// After a restart of the daemon.
    Restart,
}

/// The permitted values of a key.
#[derive(Debug)]
pub enum Range {
    /// An integer from `min` to `max`, limits included.
    Integer { min: i64, max: i64 },
    /// An integer from `min` to `max`, or 0, whose special meaning `zero` describes.
    ZeroOr {
        zero: &'static str,
        min: i64,
        max: i64,
    },
    /// A number from `min` to `max`, limits included.
    Number { min: f64, max: f64 },
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// A text that the function `fits` accepts; `permitted` describes it.
    Text {
        permitted: &'static str,
        fits: fn(&str) -> bool,
    },
    /// A list of texts that are not empty and that the function `fits` accepts; `permitted`
    /// describes them.
    List {
        permitted: &'static str,
        fits: fn(&str) -> bool,
    },
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Range::Integer { min, max } => write!(f, "{min} to {max}"),
            Range::ZeroOr { zero, min, max } => write!(f, "0 ({zero}) or {min} to {max}"),
            Range::Number { min, max } => write!(f, "{min} to {max}"),
            Range::OneOf(names) => {
                let quoted: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
                f.write_str(&quoted.join(", "))
            }
            Range::Text { permitted, .. } | Range::List { permitted, .. } => f.write_str(permitted),
        }
    }
}

/// Generates `Config`, a structure for each section, `KEYS` and `Config::from_settings` from a list
/// of entries:
///
/// ```text
/// /// The description, in whole sentences.
/// field: Type = "section.key", default, range, Reload;
/// ```
///
/// `Type` implements [`FromToml`](super::typed::FromToml); `default` is written as TOML. The
/// entries of `Config` itself come first, then the sections. `KEYS` is in the order of the entries,
/// and `Config::hash` depends on this order.
macro_rules! keys {
    (
        $(#[$config_doc:meta])*
        Config { $(
            $(#[doc = $top_line:literal])+
            $top:ident: $top_type:ty = $top_name:literal, $top_default:expr, $top_range:expr,
                $top_reload:ident;
        )* }
        $(
            $(#[$section_doc:meta])*
            $section:ident: $Section:ident { $(
                $(#[doc = $line:literal])+
                $field:ident: $type:ty = $name:literal, $default:expr, $range:expr, $reload:ident;
            )* }
        )*
    ) => {
        $(#[$config_doc])*
        /// The checked configuration.
        #[derive(Clone, Debug)]
        pub struct Config {
            $( $(#[doc = $top_line])+ pub $top: $top_type, )*
            $( $(#[$section_doc])* pub $section: $Section, )*
            settings: Vec<Setting>,
        }

        $(
            $(#[$section_doc])*
            #[derive(Clone, Debug, PartialEq)]
            pub struct $Section { $( $(#[doc = $line])+ pub $field: $type, )* }
        )*

        /// Every key, in the order of `config/expressd.toml`.
        pub const KEYS: &[Key] = &[
            $( keys!(
                @key $top_type, $top_name, $top_default, $top_range, $top_reload, $($top_line)+
            ), )*
            $( $( keys!(@key $type, $name, $default, $range, $reload, $($line)+), )* )*
        ];

        impl Config {
            /// Converts `settings`, which must hold one checked value for each key.
            pub(super) fn from_settings(settings: Vec<Setting>) -> Config {
                Config {
                    $( $top: typed(&settings, $top_name), )*
                    $( $section: $Section { $( $field: typed(&settings, $name), )* }, )*
                    settings,
                }
            }

            /// The effective value of every key with its origin, in the order of [`KEYS`].
            pub fn settings(&self) -> &[Setting] {
                &self.settings
            }
        }
    };
    (
        @key $type:ty, $name:literal, $default:expr, $range:expr, $reload:ident, $($line:literal)+
    ) => {
        Key {
            name: $name,
            default: stringify!($default),
            range: $range,
            reload: Reload::$reload,
            secret: <$type as FromToml>::SECRET,
            description: concat!($($line, "\n"),+),
        }
    };
}
pub(super) use keys;
