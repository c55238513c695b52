import { createTheme, type MantineColorsTuple } from "@mantine/core";

const indigo: MantineColorsTuple = [
  "#eef1fd",
  "#dbe0f7",
  "#b5bfec",
  "#8c9be2",
  "#6a7dd9",
  "#5469d3",
  "#485fd0",
  "#3a4fb9",
  "#3246a6",
  "#263b93",
];

/** Greys with a little blue, so that inputs and menus fit the surfaces of the dark scheme. */
const dark: MantineColorsTuple = [
  "#d5d8de",
  "#b4b9c4",
  "#9ba2af",
  "#858c99",
  "#454b56",
  "#383d47",
  "#2a2e36",
  "#1f2228",
  "#191b20",
  "#131519",
];

export const theme = createTheme({
  primaryColor: "brand",
  primaryShade: { light: 7, dark: 5 },
  colors: { brand: indigo, dark },
  black: "#1b1e26",
  defaultRadius: "md",
  autoContrast: true,
  cursorType: "pointer",
  fontFamily: 'Inter, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif',
  fontFamilyMonospace: 'ui-monospace, "SF Mono", "Cascadia Code", Menlo, Consolas, monospace',
  headings: { fontWeight: "650" },
  components: {
    Notification: { styles: { description: { color: "var(--mantine-color-dimmed)" } } },
    Alert: { styles: { title: { color: "var(--mantine-color-text)" } } },
    Tooltip: { defaultProps: { openDelay: 300, withArrow: true } },
    Modal: {
      defaultProps: { radius: "lg", overlayProps: { blur: 2, backgroundOpacity: 0.4 } },
      styles: { title: { fontWeight: 650 } },
    },
  },
});
