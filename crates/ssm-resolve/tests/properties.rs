//! What holds for every text.

use proptest::prelude::*;
use ssm_resolve::{InstanceId, MAX_TARGET_LEN, SessionTarget, Tag, Target};

proptest! {
    #[test]
    fn any_text_reads_as_itself_or_gives_a_printable_message(text in any::<String>()) {
        check(&text)?;
    }

    #[test]
    fn nearly_valid_text_reads_as_itself_or_gives_a_printable_message(
        text in r"(i-|mi-|ecs:|arn:|arn:aws:ec2:x:123456789012:instance/|tag:|asg:|-|\[|)[0-9a-fA-F_g:=/.*\]é \x00-\x20]{0,450}",
    ) {
        check(&text)?;
    }

    #[test]
    fn every_id_of_the_rule_is_a_target(id in "m?i-[0-9a-fA-F]{8,397}") {
        prop_assert_eq!(id.parse::<InstanceId>().map(Target::Instance), id.parse::<Target>());
        prop_assert_eq!(id.parse::<SessionTarget>().unwrap().to_string(), id);
    }

    #[test]
    fn every_container_is_a_target(text in "ecs:[a-zA-Z0-9_-]{1,255}_[0-9a-f]{32}_[0-9a-f]{32}-[0-9]{10}") {
        prop_assert!(matches!(text.parse(), Ok(Target::Ecs(_))));
        prop_assert_eq!(text.parse::<SessionTarget>().unwrap().to_string(), text);
    }

    #[test]
    fn every_address_is_a_target(address in any::<std::net::IpAddr>()) {
        prop_assert_eq!(address.to_string().parse(), Ok(Target::Address(address)));
        if address.is_ipv6() {
            prop_assert_eq!(format!("[{address}]").parse(), Ok(Target::Address(address)));
        }
    }

    #[test]
    fn a_tag_that_can_be_made_can_be_written(key in "[ =:a-zé]{0,130}", value in "[ =:*\\]a-zé]{0,260}") {
        if let Ok(tag) = Tag::new(key.clone(), value.clone()) {
            prop_assert_eq!((tag.key(), tag.value()), (&*key, &*value));
            prop_assert_eq!(tag.to_string().parse(), Ok(Target::Tag(tag)));
        }
    }
}

fn check(text: &str) -> Result<(), TestCaseError> {
    match text.parse::<Target>() {
        Ok(target) => {
            let written = target.to_string();
            prop_assert_eq!(written.parse::<Target>(), Ok(target), "{:?}", written);
            prop_assert!(written.chars().count() <= MAX_TARGET_LEN && !written.chars().any(char::is_control));
        }
        Err(error) => {
            let message = error.to_string();
            prop_assert!(message.chars().count() < 1500);
            // Without the visible text, all that is left is our own.
            prop_assert!(!message.chars().any(char::is_control), "{message:?}");
            prop_assert!(!message.contains(['\u{202e}', '\u{200b}', '\u{feff}']), "{message:?}");
        }
    }
    Ok(())
}
