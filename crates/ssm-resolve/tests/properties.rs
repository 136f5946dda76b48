//! What holds for every text.

use proptest::prelude::*;
use ssm_resolve::{InstanceId, MAX_TARGET_LEN, Target};

proptest! {
    #[test]
    fn any_text_gives_itself_or_a_printable_message(text in any::<String>()) {
        check(&text)?;
    }

    #[test]
    fn nearly_valid_text_gives_itself_or_a_printable_message(
        text in r"(i-|mi-|ecs:|-|)[0-9a-fA-F_g \x00-\x20é]{0,450}",
    ) {
        check(&text)?;
    }

    #[test]
    fn every_id_of_the_rule_is_a_target(id in "m?i-[0-9a-fA-F]{8,397}") {
        prop_assert_eq!(id.parse::<InstanceId>().map(Target::Instance), id.parse::<Target>());
        prop_assert!(matches!(id.parse(), Ok(Target::Instance(_))));
    }

    #[test]
    fn every_container_is_a_target(text in "ecs:[a-zA-Z0-9_-]{1,255}_[0-9a-f]{32}_[0-9a-f]{32}-[0-9]{10}") {
        prop_assert!(matches!(text.parse(), Ok(Target::Ecs(_))));
    }
}

fn check(text: &str) -> Result<(), TestCaseError> {
    match text.parse::<Target>() {
        Ok(target) => {
            prop_assert_eq!(target.as_str(), text);
            prop_assert!(text.len() <= MAX_TARGET_LEN && text.bytes().all(|byte| byte.is_ascii_graphic()));
        }
        Err(error) => {
            let message = error.to_string();
            prop_assert!(message.len() < 1000);
            prop_assert!(message.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{message:?}");
        }
    }
    Ok(())
}
