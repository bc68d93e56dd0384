import js from "@eslint/js";

const MARKUP = "text reaches the page through textContent only";

export default [
  { ignores: ["**/.*/"] },
  js.configs.recommended,
  {
    rules: {
      // The type checker knows the globals of each place.
      "no-undef": "off",
      "eqeqeq": "error",
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-var": "error",
      "prefer-const": "error",
      "no-restricted-properties": [
        "error",
        { property: "innerHTML", message: MARKUP },
        { property: "outerHTML", message: MARKUP },
        { property: "insertAdjacentHTML", message: MARKUP },
        { object: "document", property: "write", message: MARKUP },
      ],
    },
  },
];
