//! The sample: what is taken away, and which test notices. Texts are short, so that few changes of the code are changes of this list.

/// A change of one place in one file.
pub(super) struct Mutant {
    pub(super) item: usize,
    pub(super) file: &'static str,
    /// What is there, once.
    pub(super) from: &'static str,
    pub(super) to: &'static str,
    /// The test that has to fail.
    pub(super) test: &'static str,
}

const fn mutant(
    item: usize,
    file: &'static str,
    from: &'static str,
    to: &'static str,
    test: &'static str,
) -> Mutant {
    Mutant { item, file, from, to, test }
}

/// By crate, the quickest first.
pub(super) const MUTANTS: &[Mutant] = &[
    mutant(
        13,
        "crates/ssm-proto/src/body/open.rs",
        r#"message_schema_version: "1.0","#,
        r#"message_schema_version: "2.0","#,
        "item_13_opens_of_clients_and_agents_are_written_again_to_the_same_text",
    ),
    mutant(
        23,
        "crates/ssm-proto/src/header.rs",
        "Layout::Standard => (116_u32, b' '),",
        "Layout::Standard => (120_u32, b' '),",
        "item_23_24_a_standard_message_is_these_122_bytes",
    ),
    mutant(
        24,
        "crates/ssm-proto/src/header.rs",
        "Layout::Standard => (116_u32, b' '),",
        "Layout::Standard => (116_u32, 0),",
        "item_24_the_fixed_fields_are_the_same_in_every_message",
    ),
    mutant(
        25,
        "crates/ssm-proto/src/message_id.rs",
        "self.0.as_u128().rotate_left(64).to_be_bytes()",
        "self.0.as_u128().to_be_bytes()",
        "item_25_halves_are_swapped_on_the_wire",
    ),
    mutant(
        26,
        "crates/ssm-proto/src/header.rs",
        "Some(112) => Layout::Service,",
        "Some(112) => Layout::Standard,",
        "item_26_a_service_message_is_these_118_bytes",
    ),
    mutant(
        27,
        "crates/ssm-proto/src/message_type.rs",
        "let without_nuls = trim_matching(field, |byte| byte == 0);",
        "let without_nuls = field;",
        "item_27_every_name_survives_both_paddings",
    ),
    mutant(
        28,
        "crates/ssm-proto/src/header.rs",
        "Some(other) => return Err(DecodeError::HeaderLength(other)),",
        "Some(_) => Layout::Standard,",
        "item_28_every_case_has_its_verdict",
    ),
    mutant(
        29,
        "crates/ssm-proto/src/message.rs",
        "if strictness != Strictness::Unchecked",
        "if strictness == Strictness::Strict",
        "item_29_a_damaged_message_is_not_acknowledged",
    ),
    mutant(
        30,
        "crates/ssm-proto/src/message.rs",
        "if message_type.is_publication() {",
        "if message_type == crate::MessageType::StartPublication {",
        "item_29_30_the_digest_counts_for_all_but_publication_messages",
    ),
    mutant(
        31,
        "crates/ssm-proto/src/message.rs",
        "strictness == Strictness::Strict && payload_len as usize != have",
        "payload_len as usize != have",
        "item_31_the_declared_length_does_not_cut_the_payload",
    ),
    mutant(
        34,
        "crates/ssm-proto/src/header.rs",
        "flags: Flags::SYN_FIN,",
        "flags: Flags::NONE,",
        "item_34_a_peers_headers_are_those_of_the_constructors",
    ),
    mutant(
        37,
        "crates/ssm-proto/src/body/acknowledge.rs",
        r#""IsSequentialMessage":true}"#,
        r#""IsSequentialMessage":false}"#,
        "item_37_71_a_peers_bodies_are_written_again_to_the_same_bytes",
    ),
    mutant(
        71,
        "crates/ssm-proto/src/body/size.rs",
        r#"    pub cols: u32,
    /// Lines.
    pub rows: u32,"#,
        r#"    pub rows: u32,
    /// Lines.
    pub cols: u32,"#,
        "item_37_71_a_peers_bodies_are_written_again_to_the_same_bytes",
    ),
    mutant(
        74,
        "crates/ssm-proto/src/body/flag.rs",
        "if !unsigned.iter().all(u8::is_ascii_digit) {",
        "if false {",
        "item_74_only_the_exact_text_is_an_exit_code",
    ),
    mutant(
        86,
        "crates/ssm-proto/src/body/flag.rs",
        r#"value.to_be_bytes()
    }"#,
        r#"value.to_le_bytes()
    }"#,
        "item_86_a_flag_has_its_value_in_the_last_of_four_bytes",
    ),
    mutant(
        14,
        "crates/ssm-channel/src/channel.rs",
        "self.opening = Some(self.open_text(token));",
        "self.opening = first.then(|| self.open_text(token));",
        "item_14_22_the_token_opens_a_connection_in_text_and_all_else_is_binary",
    ),
    mutant(
        17,
        "crates/ssm-channel/src/config.rs",
        "keep_alive: Duration::from_secs(30),",
        "keep_alive: Duration::from_secs(300),",
        "item_17_an_idle_session_stays_open_with_a_ping_every_half_minute",
    ),
    mutant(
        18,
        "crates/ssm-channel/src/config.rs",
        "silence: Duration::from_secs(90),",
        "silence: Duration::from_secs(900),",
        "item_18_a_silent_connection_is_replaced_after_90_seconds",
    ),
    mutant(
        19,
        "crates/ssm-channel/src/channel.rs",
        "self.window.reconnected();",
        "self.recv_queue = RecvQueue::new(self.config.reorder_max, self.config.reorder_bytes_max);",
        "item_13_19_a_new_connection_goes_on_where_the_old_one_broke",
    ),
    mutant(
        20,
        "crates/ssm-channel/src/send_queue.rs",
        "                slot.first_sent_at = None;",
        r#"                slot.first_sent_at = None;
                slot.wire = slot.wire.iter().rev().copied().collect::<Vec<u8>>().into();"#,
        "item_20_unacknowledged_messages_are_repeated_unchanged_and_the_handshake_is_not",
    ),
    mutant(
        21,
        "crates/ssm-channel/src/channel.rs",
        "if let Some(budget) = self.config.reconnect {",
        "if let Some(budget) = self.config.reconnect.filter(|_| false) {",
        "item_21_the_budget_ends_a_session_that_cannot_be_reconnected",
    ),
    mutant(
        32,
        "crates/ssm-channel/src/channel.rs",
        r#"            _ => {
                self.stats.unknown_messages += 1;
                Ok(())"#,
        r#"            _ => {
                self.events.push_back(Event::Payload { kind, payload });
                Ok(())"#,
        "item_32_payloads_of_unknown_types_are_acknowledged_and_ignored",
    ),
    mutant(
        33,
        "crates/ssm-channel/src/channel.rs",
        "if payload.is_empty() {",
        "if false {",
        "item_33_an_empty_payload_is_refused_and_takes_no_number",
    ),
    mutant(
        35,
        "crates/ssm-channel/src/channel.rs",
        r#"let sequence = self.send_queue.next_sequence();
        if let Some(cipher)"#,
        r#"let sequence = self.send_queue.next_sequence() + 1;
        if let Some(cipher)"#,
        "item_34_35_36_numbers_count_stream_messages_of_any_type_and_nothing_else",
    ),
    mutant(
        36,
        "crates/ssm-channel/src/channel.rs",
        "MessageType::StartPublication => self.unpause(now),",
        "MessageType::StartPublication => self.acks.push_back((1, message.header.id)),",
        "item_32_36_messages_outside_of_the_stream_are_neither_numbered_nor_acknowledged",
    ),
    mutant(
        38,
        "crates/ssm-channel/src/recv_queue.rs",
        r#"        let message = self.parked.remove(&self.expected)?;
        self.expected += 1;"#,
        r#"        let message = self.parked.pop_first()?.1;
        self.expected += 1;"#,
        "item_38_every_seed_delivers_everything_once_and_in_order",
    ),
    mutant(
        39,
        "crates/ssm-channel/src/channel.rs",
        r#"                self.stats.duplicates_received += 1;
                self.acks.push_back((sequence, id));"#,
        "                self.stats.duplicates_received += 1;",
        "item_39_lost_ack_is_reacknowledged",
    ),
    mutant(
        40,
        "crates/ssm-channel/src/channel.rs",
        "let unwanted = self.refuses(payload_type) && !self.recv_queue.has(sequence);",
        "let unwanted = false;",
        "item_40_106_an_agent_that_is_not_ready_takes_nothing_and_reacknowledges_what_it_has",
    ),
    mutant(
        41,
        "crates/ssm-channel/src/recv_queue.rs",
        "sequence - self.expected > far || ",
        "",
        "item_41_what_is_too_far_ahead_is_left_unacknowledged",
    ),
    mutant(
        42,
        "crates/ssm-channel/src/send_queue.rs",
        "if sequence >= self.unsent {",
        "if sequence > self.unsent {",
        "item_42_acknowledgements_of_what_was_never_sent_are_ignored",
    ),
    mutant(
        43,
        "crates/ssm-channel/src/rtt.rs",
        "const MAX_TIMEOUT: Duration = Duration::from_secs(1);",
        "const MAX_TIMEOUT: Duration = Duration::from_secs(4);",
        "item_43_timeouts_stay_between_200_ms_and_1_s",
    ),
    mutant(
        44,
        "crates/ssm-channel/src/send_queue.rs",
        "let (sends, wire) = (slot.sends, slot.wire.clone());",
        "let (sends, wire) = (slot.sends, slot.wire.slice(slot.sends as usize - 1..));",
        "item_43_44_a_message_is_repeated_byte_for_byte_with_growing_pauses",
    ),
    mutant(
        45,
        "crates/ssm-channel/src/channel.rs",
        "Some(Sent::Again(at)) => self.rtt.ambiguous(",
        "Some(Sent::Again(at)) => self.rtt.sample(",
        "item_45_a_repeated_message_is_no_round_trip_and_waits_from_its_last_sending",
    ),
    mutant(
        46,
        "crates/ssm-channel/src/channel.rs",
        "if self.room().is_none() {",
        "if false {",
        "item_46_a_full_window_gives_the_payload_back",
    ),
    mutant(
        47,
        "crates/ssm-channel/src/config.rs",
        "give_up: Duration::from_secs(300),",
        "give_up: Duration::from_secs(600),",
        "item_47_a_message_that_is_never_acknowledged_ends_the_session_after_five_minutes",
    ),
    mutant(
        49,
        "crates/ssm-channel/src/recv_queue.rs",
        "            return Verdict::Duplicate;",
        "            return Verdict::InOrder(message);",
        "item_49_three_seconds_without_acknowledgements_lose_and_double_nothing",
    ),
    mutant(
        51,
        "crates/ssm-channel/src/config.rs",
        "per_second: 900,",
        "per_second: 1000,",
        "item_51_data_goes_at_900_messages_a_second_and_acknowledgements_at_once",
    ),
    mutant(
        52,
        "crates/ssm-channel/src/channel.rs",
        "(true, Role::Client) => self.pause_probe.filter(|at| *at > now),",
        "(true, Role::Client) => None,",
        "item_52_a_paused_client_sends_one_message_a_second",
    ),
    mutant(
        53,
        "crates/ssm-channel/src/channel.rs",
        "(true, Role::Agent) => return None,",
        "(true, Role::Agent) => None,",
        "item_53_a_paused_agent_sends_and_repeats_nothing_until_it_hears_the_client",
    ),
    mutant(
        55,
        "crates/ssm-channel/src/handshake.rs",
        r#"ClientAction::Unknown { action_type, .. } => Err((
                ActionStatus::Unsupported,"#,
        r#"ClientAction::Unknown { action_type, .. } => Err((
                ActionStatus::Failed,"#,
        "item_55_an_action_nobody_knows_is_unsupported_and_the_end_names_it",
    ),
    mutant(
        56,
        "crates/ssm-channel/src/channel.rs",
        "if self.handshake_started.is_some() {",
        "if false {",
        "item_56_a_repeated_request_is_acknowledged_and_answered_once",
    ),
    mutant(
        57,
        "crates/ssm-channel/src/channel.rs",
        r#"let open = self.phase == Phase::Running
"#,
        r#"let open = self.phase != Phase::Closed
"#,
        "item_57_a_client_sends_nothing_of_its_own_before_the_handshake_is_complete",
    ),
    mutant(
        58,
        "crates/ssm-channel/src/channel.rs",
        "self.start(now, Ready::without_handshake(kind, Evidence::FirstOutput));",
        "",
        "item_58_what_comes_first_without_a_handshake_says_what_the_session_is",
    ),
    mutant(
        60,
        "crates/ssm-channel/src/config.rs",
        r#"version: "1.2.764.0".into(),"#,
        r#"version: "1.2.331.0".into(),"#,
        "item_60_the_clients_version_has_four_numbers_above_what_needs_keep_alives",
    ),
    mutant(
        61,
        "crates/ssm-channel/src/config.rs",
        "handshake_timeout: Duration::from_secs(15),",
        "handshake_timeout: Duration::from_secs(60),",
        "item_61_an_agent_gives_a_handshake_fifteen_seconds",
    ),
    mutant(
        62,
        "crates/ssm-channel/src/version.rs",
        "    components(version) > components(gate)",
        "    version.split('.').count() == 4 && components(version) > components(gate)",
        "item_62_odd_agent_versions_pass_the_gates_they_should",
    ),
    mutant(
        63,
        "crates/ssm-channel/src/channel.rs",
        r#"while let Some(message) = self.recv_queue.next_parked() {
                    self.deliver(now, message)?;"#,
        r#"while let Some(message) = self.recv_queue.next_parked() {
                    self.deliver_output(now, PayloadType::Output, message.payload);"#,
        "item_63_a_request_that_waited_behind_a_gap_is_processed",
    ),
    mutant(
        64,
        "crates/ssm-channel/src/crypto.rs",
        r#"("aws:ssm:TargetId", target.to_owned())"#,
        r#"("aws:ssm:Target", target.to_owned())"#,
        "item_64_a_key_of_64_bytes_is_asked_for_with_these_names",
    ),
    mutant(
        65,
        "crates/ssm-channel/src/crypto.rs",
        "Role::Agent => (key(agent)?, key(client)?),",
        "Role::Agent => (key(client)?, key(agent)?),",
        "item_65_a_known_message_comes_out_as_known",
    ),
    mutant(
        66,
        "crates/ssm-channel/src/crypto.rs",
        "kind == PayloadType::Output || (output &&",
        "kind == PayloadType::Output || kind == PayloadType::Size || (output &&",
        "item_66_only_output_is_encrypted_on_the_way_to_the_agent",
    ),
    mutant(
        67,
        "crates/ssm-channel/src/channel.rs",
        "let Ok(plain) = cipher.open(&challenge.challenge) else { return Err(self.undecryptable()) };",
        "let Ok(plain) = cipher.open(&challenge.challenge) else { return Ok(()) };",
        "item_67_a_challenge_that_is_not_the_agents_ends_the_session",
    ),
    mutant(
        68,
        "crates/ssm-channel/src/handshake.rs",
        "challenge: challenge.clone().filter(|_| config.challenge == Challenge::Acknowledged),",
        "challenge: None,",
        "item_68_the_challenge_is_in_the_context_where_both_know_of_it",
    ),
    mutant(
        69,
        "crates/ssm-channel/src/channel.rs",
        "cipher.open(&payload).map_err(|_| self.undecryptable())",
        "Ok(cipher.open(&payload).unwrap_or(payload))",
        "item_69_output_in_the_clear_ends_an_encrypted_session",
    ),
    mutant(
        70,
        "crates/ssm-channel/src/channel.rs",
        "!ready.encrypted && !matches!(ready.kind, SessionKind::Port(_));",
        "!ready.encrypted;",
        "item_70_requiring_encryption_does_not_concern_ports",
    ),
    mutant(
        75,
        "crates/ssm-channel/src/channel.rs",
        "let detail = (!closed.output.is_empty()).then_some(closed.output);",
        "let detail = None;",
        "item_75_the_service_says_why_a_session_ended",
    ),
    mutant(
        79,
        "crates/ssm-channel/src/channel.rs",
        r#"        if let Some(cipher) = &mut self.cipher
"#,
        r#"        if payload.payload() == b"\n" {
            payload = buffer_of(b"\r");
        }
        if let Some(cipher) = &mut self.cipher
"#,
        "item_79_a_newline_alone_goes_out_as_it_is",
    ),
    mutant(
        81,
        "crates/ssm-channel/src/version.rs",
        r#"    if port.forwarding_type != LOCAL_PORT_FORWARDING {
        return PortMode::Stream;
    }
"#,
        "",
        "item_81_without_the_type_property_it_is_a_stream",
    ),
    mutant(
        82,
        "crates/ssm-channel/src/version.rs",
        "    components(version) > components(gate)",
        "    components(version) >= components(gate)",
        "item_82_99_the_mux_gate_is_strict",
    ),
    mutant(
        89,
        "crates/ssm-channel/src/version.rs",
        r#"is_above(agent, "2.3.722.0")"#,
        "!agent.is_empty()",
        "item_89_agents_that_know_no_flag_get_none",
    ),
    mutant(
        54,
        "crates/ssm-channel/src/handshake.rs",
        "answer.response.processed.push(ProcessedAction {",
        "answer.response.processed.insert(0, ProcessedAction {",
        "item_54_a_client_answers_every_action_in_order",
    ),
    mutant(
        94,
        "crates/ssm-smux/src/frame.rs",
        "let [i0, i1, i2, i3] = id.to_le_bytes();",
        "let [i0, i1, i2, i3] = id.to_be_bytes();",
        "item_94_headers_have_the_documented_bytes",
    ),
    mutant(
        95,
        "crates/ssm-smux/src/frame.rs",
        "self.held += taken;",
        "self.held = taken;",
        "item_95_every_cut_of_a_recording_gives_the_same_events",
    ),
    mutant(
        96,
        "crates/ssm-smux/src/frame.rs",
        "self.body = Body::Ignored;",
        "self.body = Body::Stream(id);",
        "item_96_an_update_in_the_middle_of_data_changes_nothing",
    ),
    mutant(
        97,
        "crates/ssm-smux/src/frame.rs",
        "if version != VERSION {",
        "if version == 0 {",
        "item_97_nothing_is_read_behind_a_broken_frame",
    ),
    mutant(
        98,
        "crates/ssm-smux/src/frame.rs",
        "SYN => expect(0).map(|()| Some(Piece::Syn(id))),",
        "SYN => Ok(Some(Piece::Syn(id))),",
        "item_98_control_frames_with_a_length_are_errors",
    ),
    mutant(
        99,
        "crates/ssm-smux/src/config.rs",
        "peer_timeout: None,",
        "peer_timeout: Some(KEEP_ALIVE_TIMEOUT),",
        "item_99_without_keep_alives_nothing_ends_an_idle_session",
    ),
    mutant(
        100,
        "crates/ssm-smux/src/mux.rs",
        r#"            && stream.receives()
"#,
        "",
        "item_100_data_after_our_fin_is_skipped",
    ),
    mutant(
        2,
        "crates/ssm-session/src/endpoint.rs",
        "key.eq_ignore_ascii_case(name)",
        "key.as_str() == name",
        "item_2_every_spelling_of_the_keys_is_read",
    ),
    mutant(
        12,
        "crates/ssm-session/src/stream_url.rs",
        r#"suffixes: ["csp.hci.ic.gov","#,
        r#"suffixes: ["hci.ic.gov","#,
        "item_12_hosts_of_every_partition_are_known",
    ),
    mutant(
        4,
        "crates/ssm-session/src/session.rs",
        "let url = if endpoint.stream_url.is_empty() { old_url } else { endpoint.stream_url };",
        "let url = old_url;",
        "item_4_6_22_each_connection_has_a_token_a_url_and_credentials_of_its_own",
    ),
    mutant(
        15,
        "crates/ssm-session/src/dial.rs",
        "identity.filter(|_| !sign::is_presigned(&url.uri))",
        "identity",
        "item_15_a_url_that_is_signed_already_is_not_signed_again",
    ),
    mutant(
        16,
        "crates/ssm-session/src/session.rs",
        r#"return self.lost(now, "the peer sent text that is not UTF-8".into());"#,
        "return;",
        "item_16_fragments_are_one_message_and_broken_text_is_a_lost_connection",
    ),
    mutant(
        80,
        "crates/ssm-session/src/dial.rs",
        "const FRAME_MAX: usize = 1024 * 1024;",
        "const FRAME_MAX: usize = 64 * 1024;",
        "item_80_messages_far_longer_than_the_agents_are_taken",
    ),
    mutant(
        71,
        "crates/ssm-shell/src/resize.rs",
        "None => Some(now),",
        "None => None,",
        "item_71_the_first_size_goes_out_at_once_and_only_once",
    ),
    mutant(
        73,
        "crates/ssm-shell/src/signals.rs",
        "Number::TSTP => Received::Key { byte: 0x1a, number },",
        "Number::TSTP => Received::End { number },",
        "item_73_keys_are_those_of_a_terminal",
    ),
    mutant(
        78,
        "crates/ssm-shell/src/escape.rs",
        r#"matches!(byte, b'\r' | b'\n') { At::LineStart }"#,
        "byte != 0 { At::LineStart }",
        "item_78_escapes_count_at_the_start_of_a_line_only",
    ),
    mutant(
        74,
        "crates/ssm-shell/src/shell.rs",
        "PayloadType::StdErr => self.error.push(payload),",
        "PayloadType::StdErr => self.output.push(payload),",
        "item_74_a_command_has_two_outputs_and_a_code",
    ),
    mutant(
        72,
        "crates/ssm-shell/src/terminal.rs",
        r#"    fn drop(&mut self) {
        restore_terminal();"#,
        "    fn drop(&mut self) {",
        "item_72_the_terminal_is_raw_during_a_session_and_restored_behind_it",
    ),
    mutant(
        76,
        "crates/ssm-shell/src/shell.rs",
        r#"            End::Here(ended_by) => {
                self::end(session).await;"#,
        "            End::Here(ended_by) => {",
        "item_76_a_reader_that_goes_away_ends_the_session",
    ),
    mutant(
        83,
        "crates/ssm-portfwd/src/single.rs",
        r#"                self.disconnect = true;
"#,
        "",
        "item_83_the_end_of_a_connection_is_one_flag",
    ),
    mutant(
        85,
        "crates/ssm-portfwd/src/lane.rs",
        "Event::Payload { kind: PayloadType::Output, payload } => match",
        "Event::Payload { payload, .. } => match",
        "item_85_87_a_refusal_does_not_touch_its_neighbours",
    ),
    mutant(
        87,
        "crates/ssm-portfwd/src/lane.rs",
        "mux.refused();",
        "",
        "item_87_a_refused_connection_is_reset_and_told_and_the_next_one_works",
    ),
    mutant(
        91,
        "crates/ssm-portfwd/src/listener.rs",
        "let v4 = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;",
        "let v4 = bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))?;",
        "item_91_without_an_address_nobody_else_gets_in",
    ),
    mutant(
        84,
        "crates/ssm-portfwd/src/single.rs",
        "self.early.push_back(payload);",
        "",
        "item_84_what_came_before_there_was_a_connection_is_kept",
    ),
    mutant(
        88,
        "crates/ssm-portfwd/src/mux.rs",
        r#"if let Some(oldest) = self.half_closed.hold(now, key, last) {
                    self.let_go(oldest);
                }"#,
        "self.let_go(key);",
        "item_88_a_program_that_has_ended_its_direction_gets_the_whole_answer",
    ),
    mutant(
        102,
        "crates/ssm-loopback/src/gateway.rs",
        "close(socket, CloseCode::Unsupported, reason).await;",
        "close(socket, CloseCode::Policy, reason).await;",
        "item_102_a_first_frame_without_a_token_is_refused",
    ),
    mutant(
        104,
        "crates/ssm-loopback/src/config.rs",
        "service_layout: Layout::Service,",
        "service_layout: Layout::Standard,",
        "item_104_the_old_header_is_the_default",
    ),
    mutant(
        105,
        "crates/ssm-loopback/src/service.rs",
        "store.ending(id);",
        "",
        "item_105_terminating_tells_both_ends_and_lets_nobody_back",
    ),
    mutant(
        107,
        "crates/ssm-loopback/src/wire.rs",
        "self.announce(AgentState::Connected);",
        "",
        "item_107_an_agent_says_first_that_it_is_connected_and_last_that_its_shell_has_ended",
    ),
    mutant(
        108,
        "crates/ssm-loopback/src/agent.rs",
        "            channel.in_flight_max = 100_000;",
        r#"            channel.in_flight_max = 100_000;
            channel.payload_len = 2048;"#,
        "item_108_an_agent_as_slow_as_awss_sends_short_messages_and_one_syn",
    ),
    mutant(
        109,
        "crates/ssm-loopback/src/relay.rs",
        "Verdict::Drop => {}",
        "Verdict::Drop => self.deliver(to, message),",
        "item_109_rules_drop_duplicate_delay_and_corrupt",
    ),
];
