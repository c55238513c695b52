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

export const theme = createTheme({
  primaryColor: "brand",
  primaryShade: { light: 7, dark: 5 },
  colors: { brand: indigo },
  defaultRadius: "md",
  cursorType: "pointer",
  fontFamily: 'Inter, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif',
  fontFamilyMonospace: 'ui-monospace, "SF Mono", "Cascadia Code", Menlo, Consolas, monospace',
  headings: { fontWeight: "650" },
  components: {
    Tooltip: { defaultProps: { openDelay: 300, withArrow: true } },
    Modal: { defaultProps: { radius: "lg", overlayProps: { blur: 2, backgroundOpacity: 0.4 } } },
  },
});
