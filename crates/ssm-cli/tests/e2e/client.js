// Opens the session in the environment variable SESSION with npm's ssm-session, as its README shows, types what stdin holds
// and writes what comes to stdout.
const { ssm } = require("ssm-session");
const WebSocket = require("ws");

const session = JSON.parse(process.env.SESSION);
const termOptions = { rows: 34, cols: 197 };
const text = { encode: new TextEncoder(), decode: new TextDecoder() };

const connection = new WebSocket(session.StreamUrl);
connection.binaryType = "arraybuffer";

connection.onopen = () => {
  ssm.init(connection, { token: session.TokenValue, termOptions });
  process.stdin.on("data", (typed) => ssm.sendText(connection, text.encode.encode(typed.toString())));
};

connection.onmessage = ({ data }) => {
  const message = ssm.decode(data);
  if (message.messageType.trim() === "channel_closed") {
    return connection.close();
  }
  ssm.sendACK(connection, message);
  if (message.payloadType === 1) {
    process.stdout.write(text.decode.decode(message.payload));
  } else if (message.payloadType === 17) {
    ssm.sendInitMessage(connection, termOptions);
  }
};

connection.onerror = (error) => {
  console.error(`WebSocket error: ${error.message}`);
  process.exit(1);
};

connection.onclose = () => process.exit(0);
