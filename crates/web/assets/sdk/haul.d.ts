export const SUBPROTOCOL: "haul.v1";
