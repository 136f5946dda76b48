//! Names of the profiles in the AWS configuration files.

use std::env;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use directories::BaseDirs;

/// Longest file that is read.
const LEN_MAX: u64 = 4 * 1024 * 1024;

/// The names of all profiles, each once, in the order of the files: what stands in the configuration and then in the credentials.
/// A file that cannot be read has none.
pub(crate) fn names() -> Vec<String> {
    let config = read("AWS_CONFIG_FILE", "config");
    let credentials = read("AWS_SHARED_CREDENTIALS_FILE", "credentials");
    let mut names: Vec<String> = Vec::new();
    for name in sections(&config).filter_map(of_config).chain(sections(&credentials)) {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

fn read(variable: &str, file: &str) -> String {
    let named = env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
    let usual = || Some(BaseDirs::new()?.home_dir().join(".aws").join(file));
    let mut text = String::new();
    let opened = named.or_else(usual).and_then(|path| File::open(path).ok());
    // One that is no text has no profiles that could be named.
    let _ = opened.map(|file| file.take(LEN_MAX).read_to_string(&mut text));
    text
}

/// What stands in brackets at the beginning of lines.
fn sections(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| Some(line.strip_prefix('[')?.split_once(']')?.0.trim()))
}

/// Sections of the configuration are `profile NAME`, `default`, and others that are no profiles.
fn of_config(section: &str) -> Option<&str> {
    match section.split_once(char::is_whitespace) {
        Some(("profile", name)) => Some(name.trim().trim_matches('"')),
        None if section == "default" => Some(section),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_profiles_stand_in_sections() {
        let text = "[default]\nregion = x\n[profile orders-dev]\n  [profile no]\n[profile  spaced ]\n\
                    [profile \"quoted\"]\n[sso-session corp]\n[services s]\n[orders]\n# [profile no]\n[profile open";
        let names: Vec<&str> = sections(text).filter_map(of_config).collect();
        assert_eq!(names, ["default", "orders-dev", "spaced", "quoted"]);
        assert_eq!(sections("[a]\n[b c]").collect::<Vec<_>>(), ["a", "b c"]);
    }
}
